//! `#[derive(Component)]`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, LitInt, LitStr, Result};

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
    let ident = &input.ident;
    let name = &attributes.name;
    let version = attributes.version;
    let fingerprint = shape(input);
    let (storage, plain) = match attributes.storage {
        Storage::Plain => (quote!(#krate::Storage::plain()), plain_impl(input, &krate)?),
        Storage::Archived => (quote!(#krate::Storage::archived()), TokenStream::new()),
        Storage::Transient => (quote!(#krate::Storage::transient()), TokenStream::new()),
    };
    Ok(quote! {
        #plain

        impl #krate::Component for #ident {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const FINGERPRINT: u64 = #krate::fingerprint(#fingerprint);
            const STORAGE: #krate::Storage<Self> = #storage;
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

/// The declared shape as text: names and types of the fields, in order. Renaming the type itself is harmless.
fn shape(input: &DeriveInput) -> String {
    let fields = |fields: &Fields| {
        let mut text = String::new();
        for (member, field) in fields.members().zip(fields) {
            text += &format!("{}:{};", member.to_token_stream(), tokens_text(field.ty.to_token_stream()));
        }
        text
    };
    match &input.data {
        Data::Struct(data) => format!("struct{{{}}}", fields(&data.fields)),
        Data::Enum(data) => {
            let mut text = "enum{".to_string();
            for variant in &data.variants {
                text += &format!("{}({})", variant.ident, fields(&variant.fields));
            }
            text + "}"
        }
        Data::Union(_) => "union".to_string(),
    }
}

/// A type's tokens, one space between them, without trailing commas: independent of how the source is laid out, and of how any
/// compiler prints tokens.
fn tokens_text(tokens: TokenStream) -> String {
    let mut words: Vec<String> = Vec::new();
    for token in tokens {
        let word = match token {
            TokenTree::Group(group) => {
                let inner = tokens_text(group.stream());
                match group.delimiter() {
                    Delimiter::Parenthesis => format!("({inner})"),
                    Delimiter::Bracket => format!("[{inner}]"),
                    Delimiter::Brace => format!("{{{inner}}}"),
                    Delimiter::None => inner,
                }
            }
            other => other.to_string(),
        };
        if word == ">" && words.last().is_some_and(|last| last == ",") {
            words.pop();
        }
        words.push(word);
    }
    if words.last().is_some_and(|last| last == ",") {
        words.pop();
    }
    words.join(" ")
}

/// The proof, checked by the compiler, that memory bytes are the value: each field is `Pod`, and nothing lies
/// between them.
fn plain_impl(input: &DeriveInput, krate: &TokenStream) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "a plain component is a struct; store an enum as `archived`",
        ));
    };
    let mut fixed = false;
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            if meta.path.is_ident("packed") || meta.path.is_ident("align") {
                return Err(
                    meta.error("a plain component is `repr(C)` or `repr(transparent)` and nothing else")
                );
            }
            Ok(())
        })?;
    }
    if !fixed {
        return Err(Error::new_spanned(
            &input.ident,
            "a plain component needs #[repr(C)] or #[repr(transparent)], so that its layout stays what it is",
        ));
    }
    let ident = &input.ident;
    let types: Vec<_> = data.fields.iter().map(|f| &f.ty).collect();
    let checks = types.iter().map(|ty| {
        quote::quote_spanned! {ty.span()=> assert_pod::<#ty>(); }
    });
    Ok(quote! {
        const _: () = {
            use #krate::__private::bytemuck;
            const fn assert_pod<T: bytemuck::Pod>() {}
            const _: () = {
                #(#checks)*
                assert!(
                    ::core::mem::size_of::<#ident>() == 0 #(+ ::core::mem::size_of::<#types>())*,
                    "a plain component has no padding: reorder its fields, or add explicit ones",
                );
            };
            // SAFETY: the type is `repr(C)` or `repr(transparent)`, and the assertions above prove that every
            // field is `Pod` and that there is no padding; `Copy` and `'static` are demanded by the trait.
            unsafe impl bytemuck::Zeroable for #ident {}
            // SAFETY: as above.
            unsafe impl bytemuck::Pod for #ident {}
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_shape_does_not_depend_on_the_layout_of_the_source() {
        let text = |source: &str| shape(&syn::parse_str(source).unwrap());
        let one = "struct A { a: Vec<u16>, b: [f32; 3], c: (u8, Option<String>), }";
        let other = "struct B { a: Vec<u16,>, b: [f32;3], c: (u8,Option<String,>,) }";
        assert_eq!(text(one), "struct{a:Vec < u16 >;b:[f32 ; 3];c:(u8 , Option < String >);}");
        assert_eq!(text(other), text(one));
        assert_eq!(text("struct C(u32, f32);"), "struct{0:u32;1:f32;}");
        assert_eq!(text("enum D { A, B(u8), C { x: f64 } }"), "enum{A()B(0:u8;)C(x:f64;)}");
    }
}
