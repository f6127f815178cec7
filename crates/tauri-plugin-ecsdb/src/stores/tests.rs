//! What stores promise, on a disk that breaks its word.

use ecsdb_io::FileOp;
use ecsdb_sim::{Fault, SimDisk};
use serde_json::json;

use super::*;

#[test]
fn no_load_says_that_something_is_durable_which_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let db = Database::builder("/stores").vfs(disk.vfs()).open().unwrap();
    let stores = Stores::of(db, dir.path().into()).unwrap();
    let [first, second] = ["first", "second"].map(|name| StoreName::new(name).unwrap());
    let defaults = || Options { defaults: json!({ "key": 1 }).as_object().cloned(), ..Options::default() };
    stores.load(&first, defaults()).unwrap();
    stores.load(&first, defaults()).unwrap();
    disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg"));
    let failed = stores.load(&second, defaults()).unwrap_err();
    for again in [defaults(), Options::default()] {
        assert_eq!(stores.load(&second, again).unwrap_err().kind, failed.kind);
    }
}
