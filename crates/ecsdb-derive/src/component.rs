//! `#[derive(Component)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, LitInt, LitStr, Result};

enum Storage {
    Plain,
    Archived,
    Transient,
}

struct Attributes {
    name: LitStr,
    version: u32,
    storage: Storage,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let krate = crate::krate::path()?;
    let attributes = parse(input)?;
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a component has one stable name, so it has no generic parameters",
        ));
    }
    let opaque = crate::describe::Attribute::parse(&input.attrs)?.opaque;
    if let (Some((name, _)), Storage::Plain | Storage::Transient) = (&opaque, &attributes.storage) {
        return Err(Error::new_spanned(name, "only an `archived` component can be opaque as a whole"));
    }
    let ident = &input.ident;
    let name = &attributes.name;
    let version = attributes.version;
    let (storage, plain, describe, description) = match attributes.storage {
        Storage::Plain => (
            quote!(#krate::Storage::plain()),
            crate::describe::plain(input, &krate)?,
            crate::describe::describe(input, None, &krate)?,
            quote!(#krate::Description::memory::<Self>()),
        ),
        Storage::Archived => (
            quote!(#krate::Storage::archived()),
            TokenStream::new(),
            crate::describe::describe(input, opaque.as_ref(), &krate)?,
            quote!(#krate::Description::archive::<Self>()),
        ),
        Storage::Transient => (
            quote!(#krate::Storage::transient()),
            TokenStream::new(),
            TokenStream::new(),
            quote!(#krate::Description::none()),
        ),
    };
    Ok(quote! {
        #plain
        #describe

        impl #krate::Component for #ident {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const STORAGE: #krate::Storage<Self> = #storage;
            fn description() -> &'static #krate::Description {
                static DESCRIPTION: ::std::sync::OnceLock<#krate::Description> = ::std::sync::OnceLock::new();
                DESCRIPTION.get_or_init(|| #description)
            }
            fn type_slot() -> u32 {
                static SLOT: #krate::TypeSlot = #krate::TypeSlot::new();
                SLOT.get()
            }
        }

        const _: () = {
            use #krate::__private::inventory;
            inventory::submit! { #krate::ComponentType::of::<#ident>() }
        };
    })
}

fn parse(input: &DeriveInput) -> Result<Attributes> {
    let (mut name, mut version, mut storage) = (None, 1, None);
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("component")) {
        attribute.parse_nested_meta(|meta| {
            let kind = if meta.path.is_ident("name") {
                let literal: LitStr = meta.value()?.parse()?;
                let text = literal.value();
                if text.is_empty() || text.len() > 255 {
                    return Err(Error::new_spanned(&literal, "a name has 1 to 255 bytes"));
                }
                name = Some(literal);
                return Ok(());
            } else if meta.path.is_ident("version") {
                version = meta.value()?.parse::<LitInt>()?.base10_parse()?;
                return Ok(());
            } else if meta.path.is_ident("plain") {
                Storage::Plain
            } else if meta.path.is_ident("archived") {
                Storage::Archived
            } else if meta.path.is_ident("transient") {
                Storage::Transient
            } else {
                return Err(meta.error("expected `name`, `version`, `plain`, `archived` or `transient`"));
            };
            if storage.replace(kind).is_some() {
                return Err(meta.error("give one of `plain`, `archived` and `transient`"));
            }
            Ok(())
        })?;
    }
    let name = name.ok_or_else(|| {
        Error::new(
            input.ident.span(),
            "a component needs a stable name: #[component(name = \"game.position\", plain)]",
        )
    })?;
    let storage = storage.ok_or_else(|| {
        Error::new(
            input.ident.span(),
            "say how the component is stored: `plain` (fixed size), `archived` (rkyv) or `transient` (memory only)",
        )
    })?;
    Ok(Attributes { name, version, storage })
}
