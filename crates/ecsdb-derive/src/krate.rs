//! Finds the name under which the user's crate knows ecsdb.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;

/// The path of the crate that exports the traits: the facade, or `ecsdb-core` where that is used alone.
pub(crate) fn path() -> syn::Result<TokenStream> {
    for (name, ident) in [("ecsdb", "ecsdb"), ("ecsdb-core", "ecsdb_core")] {
        match crate_name(name) {
            // `extern crate self as …` stands in both crates, so the name works within them too.
            Ok(FoundCrate::Itself) => {
                let ident = syn::Ident::new(ident, Span::call_site());
                return Ok(quote!(::#ident));
            }
            Ok(FoundCrate::Name(name)) => {
                let ident = syn::Ident::new(&name, Span::call_site());
                return Ok(quote!(::#ident));
            }
            Err(_) => {}
        }
    }
    Err(syn::Error::new(Span::call_site(), "add `ecsdb` (or `ecsdb-core`) to the dependencies in Cargo.toml"))
}
