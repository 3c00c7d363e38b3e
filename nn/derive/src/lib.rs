//! `#[derive(Parameters)]` for `isograd-nn`, which re-exports it; see `isograd_nn::Parameters` for what it derives.
//!
//! Every field is visited under its name (its number in a tuple struct), whatever its type, so that a field cannot be
//! forgotten: one that holds no parameters must implement the trait trivially, as numbers do, or be marked
//! `#[parameters(skip)]`.
//!
//! Of an enum the fields of the variant at hand are visited.
//!
//! `Display` prints the structure, as it does of the library's blocks; `#[parameters(display = false)]` on the struct leaves it
//! to the author.
//!
//! The backend is the type parameter bounded by `Backend`; `Dyn` for a struct without one; or what
//! `#[parameters(backend = ...)]` on the struct says.
#![forbid(unsafe_code)]

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Data, DeriveInput, Error, Fields, GenericParam, Ident, Index, Member, Result, Type, TypeParamBound, WherePredicate,
    parse_macro_input, parse_quote, spanned::Spanned, visit::Visit,
};

/// Derives `isograd_nn::Parameters`. See the crate's documentation and that trait's.
#[proc_macro_derive(Parameters, attributes(parameters))]
pub fn derive_parameters(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Where `isograd-nn` is for the crate that derives: itself, or as `nn` in the façade.
fn library() -> TokenStream {
    let path = |found, own: &str| match found {
        FoundCrate::Itself => Ident::new(own, Span::call_site()),
        FoundCrate::Name(name) => Ident::new(&name, Span::call_site()),
    };
    match (crate_name("isograd-nn"), crate_name("isograd")) {
        (Ok(found), _) => {
            let name = path(found, "isograd_nn");
            quote!(::#name)
        }
        (_, Ok(found)) => {
            let name = path(found, "isograd");
            quote!(::#name::nn)
        }
        // A crate that has neither will be told so by the compiler.
        _ => quote!(::isograd_nn),
    }
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let nn = library();
    let name = &input.ident;
    let Attributes { backend, display } = attributes(input)?;
    let backend = match backend {
        Some(given) => quote!(#given),
        None => backend_parameter(input)?.map_or_else(|| quote!(#nn::Dyn), |b| quote!(#b)),
    };
    let others = other_parameters(input, &backend);
    let mut generics = input.generics.clone();
    let label = unraw(name);
    let (visit, label) = match &input.data {
        Data::Struct(data) => {
            let (pattern, visits) = visits(&nn, &backend, &others, &data.fields, &mut generics)?;
            (quote!(let Self #pattern = self; #(#visits)*), quote!(#label))
        }
        Data::Enum(data) if data.variants.is_empty() => (quote!(match *self {}), quote!(#label)),
        Data::Enum(data) => {
            let (mut arms, mut labels) = (Vec::new(), Vec::new());
            for variant in &data.variants {
                let (pattern, visits) = visits(&nn, &backend, &others, &variant.fields, &mut generics)?;
                let ident = &variant.ident;
                let text = format!("{label}::{}", unraw(ident));
                arms.push(quote!(Self::#ident #pattern => { #(#visits)* }));
                labels.push(quote!(Self::#ident { .. } => #text));
            }
            (quote!(match self { #(#arms)* }), quote!(match self { #(#labels),* }))
        }
        Data::Union(_) => {
            let why = "Parameters cannot be derived for a union, since nothing tells which of its fields holds a value; \
                       use an enum";
            return Err(Error::new(input.ident.span(), why));
        }
    };
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, type_generics, _) = input.generics.split_for_impl();
    let display = display.then(|| {
        quote! {
            #[automatically_derived]
            impl #impl_generics ::core::fmt::Display for #name #type_generics #where_clause {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    let block: &dyn #nn::Parameters<#backend> = self;
                    ::core::fmt::Display::fmt(block, f)
                }
            }
        }
    });
    Ok(quote! {
        #display
        #[automatically_derived]
        impl #impl_generics #nn::Parameters<#backend> for #name #type_generics #where_clause {
            fn visit(&self, visitor: &mut dyn #nn::Visitor<#backend>) {
                let _ = &visitor;
                #visit
            }
            fn label(&self) -> ::core::option::Option<::std::string::String> {
                ::core::option::Option::Some(::std::string::String::from(#label))
            }
        }
    })
}

/// A pattern that binds the fields that count, and the statements that visit them; bounds are added to `generics`.
fn visits(
    nn: &TokenStream,
    backend: &TokenStream,
    others: &[Ident],
    fields: &Fields,
    generics: &mut syn::Generics,
) -> Result<(TokenStream, Vec<TokenStream>)> {
    let (mut bindings, mut visits) = (Vec::new(), Vec::new());
    for (index, field) in fields.iter().enumerate() {
        if is_skipped(field)? {
            continue;
        }
        let (member, label) = match &field.ident {
            Some(ident) => (Member::Named(ident.clone()), unraw(ident)),
            None => (Member::Unnamed(Index::from(index)), index.to_string()),
        };
        let field_type = &field.ty;
        // A field of a generic type must be bounded for the impl to be well-formed.
        if mentions(field_type, others) {
            generics.make_where_clause().predicates.push(parse_quote!(#field_type: #nn::Parameters<#backend>));
        }
        let binding = Ident::new(&format!("field_{label}"), Span::mixed_site());
        let span = field_type.span();
        visits.push(quote::quote_spanned!(span=> visitor.child(#label, #binding as &dyn #nn::Parameters<#backend>);));
        bindings.push(quote!(#member: #binding));
    }
    Ok((quote!({ #(#bindings,)* .. }), visits))
}

fn unraw(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_string()
}

/// What `#[parameters(...)]` says on a struct or an enum.
struct Attributes {
    backend: Option<Type>,
    display: bool,
}

fn attributes(input: &DeriveInput) -> Result<Attributes> {
    let mut attributes = Attributes { backend: None, display: true };
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("parameters")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("backend") {
                attributes.backend = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("display") {
                attributes.display = meta.value()?.parse::<syn::LitBool>()?.value;
            } else {
                return Err(
                    meta.error("on a struct this is #[parameters(backend = Type)] or #[parameters(display = false)]")
                );
            }
            Ok(())
        })?;
    }
    Ok(attributes)
}

/// The type parameter bounded by `Backend`, in the list or in the where clause.
fn backend_parameter(input: &DeriveInput) -> Result<Option<Ident>> {
    let is_backend = |bound: &TypeParamBound| matches!(bound, TypeParamBound::Trait(t) if t.path.segments.last().is_some_and(|s| s.ident == "Backend"));
    let mut found: Vec<Ident> = Vec::new();
    for parameter in input.generics.type_params() {
        let in_where = input.generics.where_clause.iter().flat_map(|w| &w.predicates).any(|p| match p {
            WherePredicate::Type(p) => {
                matches!(&p.bounded_ty, Type::Path(t) if t.path.is_ident(&parameter.ident))
                    && p.bounds.iter().any(is_backend)
            }
            _ => false,
        });
        if in_where || parameter.bounds.iter().any(is_backend) {
            found.push(parameter.ident.clone());
        }
    }
    match &found[..] {
        [] | [_] => Ok(found.pop()),
        [_, second, ..] => Err(Error::new(
            second.span(),
            "more than one type parameter is a Backend; say whose parameters these are with #[parameters(backend = B)]",
        )),
    }
}

/// Type parameters other than the backend.
fn other_parameters(input: &DeriveInput, backend: &TokenStream) -> Vec<Ident> {
    let backend = backend.to_string();
    let named = |p: &GenericParam| match p {
        GenericParam::Type(t) if t.ident != backend => Some(t.ident.clone()),
        _ => None,
    };
    input.generics.params.iter().filter_map(named).collect()
}

fn is_skipped(field: &syn::Field) -> Result<bool> {
    let mut skip = false;
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("parameters")) {
        attribute.parse_nested_meta(|meta| {
            skip = meta.path.is_ident("skip");
            if skip { Ok(()) } else { Err(meta.error("on a field this is #[parameters(skip)]")) }
        })?;
    }
    Ok(skip)
}

/// Whether `of` names one of `parameters`.
fn mentions(of: &Type, parameters: &[Ident]) -> bool {
    struct Finder<'a>(&'a [Ident], bool);
    impl Visit<'_> for Finder<'_> {
        fn visit_ident(&mut self, ident: &Ident) {
            self.1 |= self.0.contains(ident);
        }
    }
    let mut finder = Finder(parameters, false);
    finder.visit_type(of);
    finder.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: DeriveInput) -> String {
        expand(&input).expect_err("this cannot be derived").to_string()
    }

    #[test]
    fn what_cannot_be_derived_says_why() {
        let union: DeriveInput = parse_quote!(
            union Net {
                small: Dense,
                large: Conv2D,
            }
        );
        assert!(error(union).contains("use an enum"));
        let two = parse_quote!(
            struct Net<A: Backend, C: Backend> {
                a: Dense<A>,
                c: Dense<C>,
            }
        );
        assert!(error(two).contains("#[parameters(backend = B)]"));
        assert!(
            error(parse_quote!(
                struct Net {
                    #[parameters(ignore)]
                    layer: Dense,
                }
            ))
            .contains("#[parameters(skip)]")
        );
        assert!(
            error(parse_quote!(
                #[parameters(skip)]
                struct Net {
                    layer: Dense,
                }
            ))
            .contains("backend = Type")
        );
    }

    #[test]
    fn the_backend_is_found_wherever_it_is_bounded() {
        let found = |input: DeriveInput| backend_parameter(&input).map(|b| b.map(|b| b.to_string()));
        assert_eq!(
            found(parse_quote!(
                struct N<T, D: core::Backend>(T, D);
            ))
            .ok()
            .flatten()
            .as_deref(),
            Some("D")
        );
        assert_eq!(
            found(parse_quote!(
                struct N<E>(E)
                where
                    E: Backend;
            ))
            .ok()
            .flatten()
            .as_deref(),
            Some("E")
        );
        assert_eq!(
            found(parse_quote!(
                struct N<T: Clone>(T);
            ))
            .ok()
            .flatten(),
            None
        );
    }
}
