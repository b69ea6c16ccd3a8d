//! The user's function, read and judged: what the expansion needs to know, or a sentence for everything amiss.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{
    FnArg, GenericParam, Ident, ItemFn, Lifetime, Pat, PatType, ReturnType, Signature, Type, TypeReference,
};

use crate::errors::Errors;
use crate::text::{at, compact, ungroup};

const OWNED_ONLY: &str = "a job borrows only whole arguments: `&str`, `&[u8]`, `&T` with an owned `T`";
const NO_LIFETIMES: &str =
    "a job cannot name lifetimes: write `&str`, `&[u8]` or `&T` and return an owned value";

/// A function that can be a job.
pub(crate) struct Job {
    pub(crate) func: ItemFn,
    pub(crate) params: Vec<Param>,
    pub(crate) result: Output,
}

pub(crate) struct Param {
    /// As messages name it.
    pub(crate) name: String,
    /// Its name in the generated code. With a prefix, or a job named like a parameter would make it a pattern.
    pub(crate) var: Ident,
    pub(crate) pass: Pass,
}

/// How an argument is passed.
pub(crate) enum Pass {
    /// `T`
    Owned(Type),
    /// `&str`
    Text(Type),
    /// `&[u8]`
    Bytes(Type),
    /// `&T`, including `&[T]` and `&Path`
    Borrowed(Type),
}

pub(crate) struct Output {
    pub(crate) ty: TokenStream,
    pub(crate) span: Span,
    /// Written as `Result`, by whatever path; the macro cannot see through an alias of another name.
    pub(crate) fallible: bool,
}

impl Job {
    /// Reads the function; what cannot be a job's goes to `errors`.
    pub(crate) fn read(func: ItemFn, errors: &mut Errors) -> Self {
        check_signature(&func.sig, errors);
        let inputs = func.sig.inputs.iter().enumerate();
        let params = inputs.filter_map(|(index, input)| Param::read(index, input, errors)).collect();
        let result = Output::read(&func.sig, errors);
        Self { func, params, result }
    }

    pub(crate) fn is_async(&self) -> bool {
        self.func.sig.asyncness.is_some()
    }

    pub(crate) fn borrows(&self) -> bool {
        self.params.iter().any(|param| !matches!(param.pass, Pass::Owned(_)))
    }

    /// The name without a raw identifier's `r#`.
    pub(crate) fn name(&self) -> String {
        self.func.sig.ident.unraw().to_string()
    }

    /// The types alone, like `(u64,&str)->Stats`.
    pub(crate) fn signature(&self) -> String {
        let params: Vec<_> = self.params.iter().map(|param| compact(param.written())).collect();
        format!("({})->{}", params.join(","), compact(&self.result.ty))
    }

    /// The function's head as a reader of the docs wants it.
    pub(crate) fn head(&self) -> String {
        let is_async = if self.is_async() { "async " } else { "" };
        let params: Vec<_> =
            self.params.iter().map(|param| format!("{}: {}", param.name, compact(param.written()))).collect();
        let result = match &self.func.sig.output {
            ReturnType::Default => String::new(),
            ReturnType::Type(..) => format!(" -> {}", compact(&self.result.ty)),
        };
        format!("{is_async}fn {}({}){result}", self.name(), params.join(", "))
    }
}

impl Param {
    fn read(index: usize, input: &FnArg, errors: &mut Errors) -> Option<Self> {
        let input = match input {
            FnArg::Typed(input) => input,
            FnArg::Receiver(receiver) => {
                let sentence =
                    "a job cannot take `self`: write a free function and pass the value as an argument";
                errors.push(receiver, sentence);
                return None;
            }
        };
        if let Some(cfg) = input.attrs.iter().find(|attr| attr.path().is_ident("cfg")) {
            errors.push(cfg, "a job's parameter cannot be conditional: put `#[cfg]` on two whole functions");
        }
        Some(Self {
            name: param_name(index, input),
            var: param_var(index, input),
            pass: Pass::read(ungroup((*input.ty).clone()), errors),
        })
    }

    /// The type, without the reference that borrows it.
    pub(crate) fn ty(&self) -> &Type {
        match &self.pass {
            Pass::Owned(ty) | Pass::Text(ty) | Pass::Bytes(ty) | Pass::Borrowed(ty) => ty,
        }
    }

    /// The type as the function takes it.
    pub(crate) fn written(&self) -> TokenStream {
        match &self.pass {
            Pass::Owned(ty) => ty.to_token_stream(),
            Pass::Text(ty) | Pass::Bytes(ty) | Pass::Borrowed(ty) => quote!(&#ty),
        }
    }
}

fn param_name(index: usize, input: &PatType) -> String {
    match &*input.pat {
        Pat::Ident(pattern) => pattern.ident.unraw().to_string(),
        _ => format!("#{}", index + 1),
    }
}

fn param_var(index: usize, input: &PatType) -> Ident {
    let name = match &*input.pat {
        Pat::Ident(pattern) => format!("__cw_arg_{}", pattern.ident.unraw()),
        _ => format!("__cw_arg_{index}"),
    };
    Ident::new(&name, at(input.pat.span()))
}

impl Pass {
    fn read(ty: Type, errors: &mut Errors) -> Self {
        match ty {
            Type::Reference(reference) => Self::read_reference(reference, errors),
            owned => {
                check_argument(&owned, errors);
                Self::Owned(owned)
            }
        }
    }

    fn read_reference(reference: TypeReference, errors: &mut Errors) -> Self {
        if let Some(mutability) = &reference.mutability {
            let sentence =
                "a job's argument cannot be `&mut`: the worker has a copy; return the new value instead";
            errors.push(mutability, sentence);
        }
        if let Some(lifetime) = &reference.lifetime {
            errors.push(lifetime, NO_LIFETIMES);
        }
        let inner = ungroup(*reference.elem);
        check_argument(&inner, errors);
        match compact(&inner).as_str() {
            "str" => Self::Text(inner),
            "[u8]" => Self::Bytes(inner),
            _ => Self::Borrowed(inner),
        }
    }
}

impl Output {
    fn read(sig: &Signature, errors: &mut Errors) -> Self {
        let ReturnType::Type(_, ty) = &sig.output else {
            return Self { ty: quote!(()), span: Span::call_site(), fallible: false };
        };
        let ty = ungroup((**ty).clone());
        match &ty {
            Type::ImplTrait(_) => errors.push(&ty, "a job's result needs a concrete type, not `impl Trait`"),
            Type::Never(_) => errors.push(&ty, "a job has to return"),
            _ => {}
        }
        if let Some(borrow) = Borrow::find(&ty) {
            errors.push(borrow, "a job returns owned values: the result crosses the network");
        }
        Self { fallible: is_result(&ty), span: ty.span(), ty: ty.into_token_stream() }
    }
}

pub(crate) fn is_result(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Result"))
}

fn check_argument(ty: &Type, errors: &mut Errors) {
    match ty {
        Type::ImplTrait(_) => errors.push(ty, "a job's argument needs a concrete type, not `impl Trait`"),
        Type::TraitObject(_) => errors.push(ty, "a job's argument needs a concrete type, not `dyn Trait`"),
        _ => {
            if let Some(borrow) = Borrow::find(ty) {
                errors.push(borrow, OWNED_ONLY);
            }
        }
    }
}

/// The first reference or lifetime inside a type.
#[derive(Default)]
struct Borrow(Option<TokenStream>);

impl Borrow {
    fn find(ty: &Type) -> Option<TokenStream> {
        let mut found = Self::default();
        found.visit_type(ty);
        found.0
    }
}

impl<'ast> Visit<'ast> for Borrow {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.0.get_or_insert_with(|| reference.to_token_stream());
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.0.get_or_insert_with(|| lifetime.to_token_stream());
        }
    }
}

fn check_signature(sig: &Signature, errors: &mut Errors) {
    check_generics(sig, errors);
    if let Some(token) = &sig.constness {
        errors.push(token, "a job cannot be `const fn`: calls go through its handle");
    }
    if let Some(token) = &sig.unsafety {
        errors.push(token, "a job cannot be unsafe: workers call it from safe code");
    }
    if let Some(abi) = &sig.abi {
        errors.push(abi, "a job has to use Rust's own ABI: remove the `extern`");
    }
    if let Some(variadic) = &sig.variadic {
        errors.push(variadic, "a job cannot take a variable number of arguments: take a `Vec`");
    }
}

fn check_generics(sig: &Signature, errors: &mut Errors) {
    for param in &sig.generics.params {
        match param {
            GenericParam::Type(param) => errors.push(param, generic_sentence(&sig.ident)),
            GenericParam::Const(param) => {
                errors.push(param, "a job cannot have const generics: pass the value as an argument");
            }
            GenericParam::Lifetime(param) => errors.push(param, NO_LIFETIMES),
        }
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.push(clause, "a job cannot have a where clause: its types are concrete");
    }
}

fn generic_sentence(name: &Ident) -> String {
    let name = name.unraw();
    format!(
        "a job cannot be generic: it is registered once, for one concrete signature\n\
         help: write one job per type, e.g. `#[cw::job] fn {name}_u64(..) {{ {name}::<u64>(..) }}`"
    )
}
