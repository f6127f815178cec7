//! `#[derive(Bundle)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Result};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let krate = crate::krate::path()?;
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "a bundle is a struct whose fields are components"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a bundle has no generic parameters"));
    }
    let name = &input.ident;
    let types: Vec<_> = data.fields.iter().map(|f| &f.ty).collect();
    let members: Vec<_> = data.fields.members().collect();
    Ok(quote! {
        impl #krate::Bundle for #name {
            type Removed = (#(<#types as #krate::Bundle>::Removed,)*);

            fn types(sink: &mut #krate::BundleTypes<'_>) {
                #(<#types as #krate::Bundle>::types(sink);)*
            }
            fn put(self, sink: &mut #krate::BundleSink<'_>) {
                #(#krate::Bundle::put(self.#members, sink);)*
            }
            fn copy(source: &#krate::BundleSource<'_>) -> ::core::result::Result<Self::Removed, #krate::BundleError> {
                ::core::result::Result::Ok((#(<#types as #krate::Bundle>::copy(source)?,)*))
            }
            fn take(source: &#krate::BundleSource<'_>) -> ::core::result::Result<Self, #krate::BundleError> {
                ::core::result::Result::Ok(#name { #(#members: <#types as #krate::Bundle>::take(source)?,)* })
            }
        }
    })
}
