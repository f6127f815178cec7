//! `#[derive(Describe)]`, which `#[derive(Component)]` implies: what a type consists of, and for plain types the proof that its
//! memory bytes are its value.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DeriveInput, Error, Field, Fields, LitInt, LitStr, Result};

/// `#[describe(…)]` of a type or a field.
#[derive(Default)]
pub(crate) struct Attribute {
    pub(crate) plain: bool,
    /// Name and version.
    pub(crate) opaque: Option<(LitStr, u32)>,
}

impl Attribute {
    pub(crate) fn parse(attributes: &[syn::Attribute]) -> Result<Attribute> {
        let mut found = Attribute::default();
        let (mut name, mut version) = (None, None);
        for attribute in attributes.iter().filter(|a| a.path().is_ident("describe")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("plain") {
                    found.plain = true;
                } else if meta.path.is_ident("opaque") {
                    name = Some(meta.value()?.parse::<LitStr>()?);
                } else if meta.path.is_ident("version") {
                    version = Some(meta.value()?.parse::<LitInt>()?);
                } else {
                    return Err(meta.error("expected `plain`, or `opaque = \"name\", version = n`"));
                }
                Ok(())
            })?;
        }
        found.opaque = match (name, version) {
            (Some(name), Some(version)) => Some((name, version.base10_parse()?)),
            (None, None) => None,
            (Some(name), None) => {
                return Err(Error::new_spanned(
                    name,
                    "an opaque part needs a version, to be raised whenever its stored form changes: `opaque = \"name\", version = 1`",
                ));
            }
            (None, Some(version)) => {
                return Err(Error::new_spanned(
                    version,
                    "a version is of something opaque: `opaque = \"name\", version = 1`",
                ));
            }
        };
        Ok(found)
    }
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let krate = crate::krate::path()?;
    let attribute = Attribute::parse(&input.attrs)?;
    let plain = if attribute.plain { plain(input, &krate)? } else { TokenStream::new() };
    let describe = describe(input, attribute.opaque.as_ref(), &krate)?;
    Ok(quote!(#plain #describe))
}

/// The implementation of `Describe`.
pub(crate) fn describe(
    input: &DeriveInput,
    opaque: Option<&(LitStr, u32)>,
    krate: &TokenStream,
) -> Result<TokenStream> {
    let ident = &input.ident;
    if opaque.is_none() {
        refuse_rkyv(&input.attrs, &["as", "remote"])?;
    }
    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(#krate::Describe));
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let (shape, visit) = match (opaque, &input.data) {
        (Some((name, version)), _) => (
            quote!(#krate::describe::Shape::Opaque(#name.into(), #version)),
            quote!(::core::result::Result::Ok(())),
        ),
        (None, Data::Struct(data)) => {
            let parts = parts(&data.fields, krate, |member| quote!(::core::mem::offset_of!(Self, #member)))?;
            let members: Vec<_> = data.fields.members().collect();
            let visits =
                visits(&data.fields, &members.iter().map(|m| quote!(&self.#m)).collect::<Vec<_>>(), krate)?;
            (
                quote!(#krate::describe::Shape::Struct(::std::vec![#(#parts),*])),
                quote!(#visits ::core::result::Result::Ok(())),
            )
        }
        (None, Data::Enum(data)) => enumeration(data, krate)?,
        (None, Data::Union(_)) => {
            return Err(Error::new_spanned(ident, "a union cannot be described: declare it opaque"));
        }
    };
    Ok(quote! {
        impl #impl_generics #krate::Describe for #ident #ty_generics #where_clause {
            fn shape(types: &mut #krate::describe::Types) -> #krate::describe::Shape {
                #[allow(unused_imports)]
                use #krate::__private::NoArchive as _;
                let _ = &types;
                #shape
            }
            fn layout(stored: #krate::__private::Stored) -> (usize, usize) {
                #[allow(unused_imports)]
                use #krate::__private::NoArchive as _;
                match stored {
                    #krate::__private::Stored::Memory => {
                        (::core::mem::size_of::<Self>(), ::core::mem::align_of::<Self>())
                    }
                    #krate::__private::Stored::Archive => #krate::__private::Probe::<Self>::ARCHIVE,
                }
            }
            fn visit(
                &self,
                visitor: &mut #krate::describe::Visitor,
            ) -> ::core::result::Result<(), #krate::describe::TooDeep> {
                let _ = &visitor;
                #visit
            }
        }
    })
}

/// Refuses what makes an archive of another form than the type's own, since it would be described as what it is not.
fn refuse_rkyv(attributes: &[syn::Attribute], refused: &[&str]) -> Result<()> {
    for attribute in attributes.iter().filter(|a| a.path().is_ident("rkyv")) {
        let syn::Meta::List(list) = &attribute.meta else { continue };
        let mut begins = true;
        for token in list.tokens.clone() {
            match &token {
                TokenTree::Ident(ident) if begins && refused.iter().any(|word| ident == word) => {
                    return Err(Error::new_spanned(
                        &token,
                        format!(
                            "`{ident}` gives the archive a form that is not described: declare the part opaque, \
                             #[describe(opaque = \"name\", version = 1)], and raise the version when the form changes"
                        ),
                    ));
                }
                TokenTree::Punct(punct) => begins = punct.as_char() == ',',
                _ => begins = false,
            }
        }
    }
    Ok(())
}

/// An expression for each field: its description.
fn parts(
    fields: &Fields,
    krate: &TokenStream,
    offset: impl Fn(&syn::Member) -> TokenStream,
) -> Result<Vec<TokenStream>> {
    let all = fields.members().zip(fields);
    all.map(|(member, field)| {
        let name = match &member {
            syn::Member::Named(ident) => plain_name(ident),
            syn::Member::Unnamed(index) => index.index.to_string(),
        };
        let (ty, offset) = (&field.ty, offset(&member));
        let opaque = Attribute::parse(&field.attrs)?.opaque;
        if opaque.is_none() {
            refuse_rkyv(&field.attrs, &["with", "getter"])?;
        }
        Ok(match opaque {
            Some((opaque, version)) => quote! {
                types.opaque_field::<#ty>(
                    #name,
                    #offset,
                    (#opaque, #version),
                    #krate::__private::Probe::<#ty>::ARCHIVE,
                )
            },
            None => {
                // An error points at the field's type; names must be those of this macro, whoever wrote the type.
                let span = Span::call_site().located_at(ty.span());
                let field = quote::quote_spanned!(span=> types.field::<#ty>);
                quote!(#field(#name, #offset))
            }
        })
    })
    .collect()
}

/// An identifier's name, however it is written.
fn plain_name(ident: &syn::Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_string()
}

/// Statements that show each field, given as a reference, to the visitor.
fn visits(fields: &Fields, values: &[TokenStream], krate: &TokenStream) -> Result<TokenStream> {
    let mut visits = TokenStream::new();
    for (field, value) in fields.iter().zip(values) {
        let Field { attrs, .. } = field;
        if Attribute::parse(attrs)?.opaque.is_none() {
            visits.extend(quote!(#krate::Describe::visit(#value, visitor)?;));
        } else {
            visits.extend(quote!(let _ = #value;));
        }
    }
    Ok(visits)
}

fn enumeration(data: &DataEnum, krate: &TokenStream) -> Result<(TokenStream, TokenStream)> {
    let (mut variants, mut arms) = (Vec::new(), Vec::new());
    // What tells a variant without fields is its discriminant, where the enum is its memory; an archive counts them.
    let mut next = quote!(0i64);
    for variant in &data.variants {
        let (ident, name) = (&variant.ident, plain_name(&variant.ident));
        let number = match &variant.discriminant {
            Some((_, expression)) => quote!(((#expression) as i64)),
            None => next,
        };
        next = quote!((#number + 1));
        let parts = parts(&variant.fields, krate, |_| quote!(0))?;
        variants.push(quote! {
            #krate::describe::Variant { name: #name.into(), number: #number, fields: ::std::vec![#(#parts),*] }
        });
        let bindings: Vec<_> = (0..variant.fields.len()).map(|i| format_ident!("field_{i}")).collect();
        let members = variant.fields.members();
        let visits =
            visits(&variant.fields, &bindings.iter().map(|b| quote!(#b)).collect::<Vec<_>>(), krate)?;
        let pattern = quote!(Self::#ident { #(#members: #bindings),* });
        arms.push(quote!(#pattern => { visitor.bytes(&i64::to_le_bytes(#number)); #visits }));
    }
    let visit = if arms.is_empty() {
        quote!(match *self {})
    } else {
        quote!(match self { #(#arms)* } ::core::result::Result::Ok(()))
    };
    Ok((quote!(#krate::describe::Shape::Enum(::std::vec![#(#variants),*])), visit))
}

/// The implementation of `Plain`, under compile-time proofs: each part is plain, and nothing lies between them.
pub(crate) fn plain(input: &DeriveInput, krate: &TokenStream) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a plain type has no generic parameters"));
    }
    match &input.data {
        Data::Struct(data) => plain_struct(input, &data.fields, krate),
        Data::Enum(data) => plain_enum(input, data, krate),
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "a union is not plain")),
    }
}

/// The words in `#[repr(…)]`.
fn reprs(input: &DeriveInput) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("packed") || meta.path.is_ident("align") {
                return Err(meta.error("a plain type is not packed, and not aligned by hand"));
            }
            found.extend(meta.path.get_ident().map(ToString::to_string));
            Ok(())
        })?;
    }
    Ok(found)
}

fn plain_struct(input: &DeriveInput, fields: &Fields, krate: &TokenStream) -> Result<TokenStream> {
    let ident = &input.ident;
    if !reprs(input)?.iter().any(|repr| repr == "C" || repr == "transparent") {
        return Err(Error::new_spanned(
            ident,
            "a plain struct needs #[repr(C)] or #[repr(transparent)], so that its layout stays what it is",
        ));
    }
    let (mut asserts, mut any, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for (member, field) in fields.members().zip(fields) {
        let ty = &field.ty;
        if Attribute::parse(&field.attrs)?.opaque.is_some() {
            // Of a type of another crate there is only its own word that any bytes are a value.
            asserts.push(quote::quote_spanned!(ty.span()=> assert_pod::<#ty>();));
            continue;
        }
        asserts.push(quote::quote_spanned!(ty.span()=> assert_plain::<#ty>();));
        any.push(quote!(<#ty as #krate::Plain>::ANY_BYTES));
        valid.push(quote! {
            bytes
                .get(::core::mem::offset_of!(#ident, #member)..)
                .and_then(|rest| rest.get(..::core::mem::size_of::<#ty>()))
                .is_some_and(<#ty as #krate::Plain>::is_valid)
        });
    }
    let types: Vec<_> = fields.iter().map(|f| &f.ty).collect();
    Ok(quote! {
        const _: () = {
            #[allow(dead_code)]
            const fn assert_plain<T: #krate::Plain>() {}
            #[allow(dead_code)]
            const fn assert_pod<T: #krate::__private::bytemuck::Pod>() {}
            const _: () = {
                #(#asserts)*
                assert!(
                    ::core::mem::size_of::<#ident>() == 0 #(+ ::core::mem::size_of::<#types>())*,
                    "a plain type has no padding: reorder its fields, or add explicit ones",
                );
            };
            // SAFETY: the type is `repr(C)` or `repr(transparent)`, and the assertions above prove that every
            // field is plain and that there is no padding; its bytes are valid when those of each field are.
            unsafe impl #krate::Plain for #ident {
                const ANY_BYTES: bool = true #(&& #any)*;
                fn is_valid(bytes: &[u8]) -> bool {
                    let _ = bytes;
                    true #(&& #valid)*
                }
            }
        };
    })
}

fn plain_enum(input: &DeriveInput, data: &DataEnum, krate: &TokenStream) -> Result<TokenStream> {
    let ident = &input.ident;
    const INTEGERS: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];
    let repr = reprs(input)?.into_iter().find(|repr| INTEGERS.contains(&repr.as_str()));
    let Some(repr) = repr.map(|repr| format_ident!("{repr}")) else {
        return Err(Error::new_spanned(
            ident,
            "a plain enum needs an explicit number type, such as #[repr(u8)], so that its layout stays what it is",
        ));
    };
    if let Some(variant) = data.variants.iter().find(|variant| !variant.fields.is_empty()) {
        return Err(Error::new_spanned(
            variant,
            "a plain enum has no fields; store one that has as `archived`",
        ));
    }
    if data.variants.is_empty() {
        return Err(Error::new_spanned(ident, "an enum without variants has no values"));
    }
    let variants = data.variants.iter().map(|variant| &variant.ident);
    Ok(quote! {
        // SAFETY: the enum has no fields and is represented by a number, which is valid when it is that of a variant.
        unsafe impl #krate::Plain for #ident {
            const ANY_BYTES: bool = false;
            fn is_valid(bytes: &[u8]) -> bool {
                let Ok(bytes) = <[u8; ::core::mem::size_of::<#repr>()]>::try_from(bytes) else { return false };
                let number = #repr::from_ne_bytes(bytes);
                false #(|| number == #ident::#variants as #repr)*
            }
        }
    })
}
