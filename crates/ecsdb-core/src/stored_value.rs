//! The value of an archived component whose Rust type this program does not have: its stored bytes, kept as
//! they are, so that a tool (or an older program) carries on what it does not know.

use crate::component::{CodecError, Component, Storage, TypeSlot};
use crate::describe::Description;

#[derive(Clone)]
pub(crate) struct StoredValue(pub(crate) Box<[u8]>);

impl Component for StoredValue {
    // The name is never registered: the rows go by the name of the component they are values of.
    const NAME: &'static str = "";
    const VERSION: u32 = 0;
    const STORAGE: Storage<Self> = Storage::opaque();

    fn description() -> &'static Description {
        const { &Description::none() }
    }

    fn type_slot() -> u32 {
        static SLOT: TypeSlot = TypeSlot::new();
        SLOT.get()
    }
}

impl Storage<StoredValue> {
    const fn opaque() -> Self {
        Storage::archived_with(
            |value: &StoredValue, out: &mut Vec<u8>| -> Result<(), CodecError> {
                out.extend_from_slice(&value.0);
                Ok(())
            },
            |bytes: &[u8]| Ok(StoredValue(bytes.into())),
        )
    }
}
