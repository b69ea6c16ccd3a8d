//! The user's function, read and judged: what the expansion needs to know, or a sentence for everything amiss.

use std::fmt;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    FnArg, GenericParam, Ident, ItemFn, Lifetime, Pat, PatType, Path, ReturnType, Signature, Type,
    TypeImplTrait, TypeReference, TypeTraitObject,
};

use crate::errors::Errors;
use crate::text::{at, compact, ungroup};

/// What an attribute makes of a function; sentences begin with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Job,
    Cached,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.choose("a job", "a cached function"))
    }
}

impl Subject {
    /// The reason that is its own.
    fn choose(self, job: &'static str, cached: &'static str) -> &'static str {
        match self {
            Self::Job => job,
            Self::Cached => cached,
        }
    }

    fn owned_only(self) -> String {
        format!("{self} borrows only whole arguments: `&str`, `&[u8]`, `&T` with an owned `T`")
    }

    fn no_lifetimes(self) -> String {
        format!("{self} cannot name lifetimes: write `&str`, `&[u8]` or `&T` and return an owned value")
    }
}

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
        let subject = Subject::Job;
        check_signature(subject, &func.sig, errors);
        let params = Param::read_all(subject, &func.sig, errors);
        let result = Output::read(subject, &func.sig, errors);
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
    pub(crate) fn read_all(subject: Subject, sig: &Signature, errors: &mut Errors) -> Vec<Self> {
        let inputs = sig.inputs.iter().enumerate();
        inputs.filter_map(|(index, input)| Self::read(subject, index, input, errors)).collect()
    }

    fn read(subject: Subject, index: usize, input: &FnArg, errors: &mut Errors) -> Option<Self> {
        let input = match input {
            FnArg::Typed(input) => input,
            FnArg::Receiver(receiver) => {
                let sentence = format!(
                    "{subject} cannot take `self`: write a free function and pass the value as an argument"
                );
                errors.push(receiver, sentence);
                return None;
            }
        };
        if let Some(cfg) = input.attrs.iter().find(|attr| attr.path().is_ident("cfg")) {
            let sentence =
                format!("{subject}'s parameter cannot be conditional: put `#[cfg]` on two whole functions");
            errors.push(cfg, sentence);
        }
        Some(Self {
            name: param_name(index, input),
            var: param_var(index, input),
            pass: Pass::read(subject, ungroup((*input.ty).clone()), errors),
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
    fn read(subject: Subject, ty: Type, errors: &mut Errors) -> Self {
        match ty {
            Type::Reference(reference) => Self::read_reference(subject, reference, errors),
            owned => {
                check_argument(subject, &owned, errors);
                Self::Owned(owned)
            }
        }
    }

    fn read_reference(subject: Subject, reference: TypeReference, errors: &mut Errors) -> Self {
        if let Some(mutability) = &reference.mutability {
            let why = subject.choose("the worker has a copy", "not every call would change it");
            let sentence =
                format!("{subject}'s argument cannot be `&mut`: {why}; return the new value instead");
            errors.push(mutability, sentence);
        }
        if let Some(lifetime) = &reference.lifetime {
            errors.push_once(lifetime, &subject.no_lifetimes());
        }
        let inner = ungroup(*reference.elem);
        check_argument(subject, &inner, errors);
        match compact(&inner).as_str() {
            "str" => Self::Text(inner),
            "[u8]" => Self::Bytes(inner),
            _ => Self::Borrowed(inner),
        }
    }
}

impl Output {
    pub(crate) fn read(subject: Subject, sig: &Signature, errors: &mut Errors) -> Self {
        let ReturnType::Type(_, ty) = &sig.output else {
            return Self { ty: quote!(()), span: Span::call_site(), fallible: false };
        };
        let ty = ungroup((**ty).clone());
        match &ty {
            Type::ImplTrait(_) => {
                errors.push(&ty, format!("{subject}'s result needs a concrete type, not `impl Trait`"));
            }
            Type::Never(_) => errors.push(&ty, format!("{subject} has to return")),
            _ => {}
        }
        if let Some(borrow) = Borrow::find(&ty) {
            let why = subject.choose("the result crosses the network", "the result is kept");
            errors.push(borrow, format!("{subject} returns owned values: {why}"));
        }
        Self { fallible: is_result(&ty), span: ty.span(), ty: ty.into_token_stream() }
    }
}

pub(crate) fn is_result(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Result"))
}

fn check_argument(subject: Subject, ty: &Type, errors: &mut Errors) {
    if let Some((part, not)) = Abstract::find(ty) {
        errors.push(part, format!("{subject}'s argument needs a concrete type, not `{not} Trait`"));
    } else if let Some(borrow) = Borrow::find(ty) {
        errors.push(borrow, subject.owned_only());
    }
}

/// The first `impl Trait` or `dyn Trait` inside a type.
#[derive(Default)]
struct Abstract(Option<(TokenStream, &'static str)>);

impl Abstract {
    fn find(ty: &Type) -> Option<(TokenStream, &'static str)> {
        let mut found = Self::default();
        found.visit_type(ty);
        found.0
    }
}

impl<'ast> Visit<'ast> for Abstract {
    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.0.get_or_insert_with(|| (ty.to_token_stream(), "impl"));
    }

    fn visit_type_trait_object(&mut self, ty: &'ast TypeTraitObject) {
        self.0.get_or_insert_with(|| (ty.to_token_stream(), "dyn"));
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

/// The first mention of `Self` in a signature. Only within an `impl` or a trait has it a meaning.
#[derive(Default)]
pub(crate) struct SelfType(Option<TokenStream>);

impl SelfType {
    pub(crate) fn find(sig: &Signature) -> Option<TokenStream> {
        let mut found = Self::default();
        found.visit_signature(sig);
        found.0
    }
}

impl<'ast> Visit<'ast> for SelfType {
    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.first().is_some_and(|first| first.ident == "Self") {
            self.0.get_or_insert_with(|| path.to_token_stream());
        }
        visit::visit_path(self, path);
    }
}

pub(crate) fn check_signature(subject: Subject, sig: &Signature, errors: &mut Errors) {
    check_generics(subject, sig, errors);
    // A receiver's type is `Self` without saying it, and has a sentence of its own.
    if let (Some(path), None) = (SelfType::find(sig), sig.receiver()) {
        errors.push(
            path,
            format!(
                "{subject} cannot stand in an `impl` or a trait: write a free function and name the type"
            ),
        );
    }
    if let Some(token) = &sig.constness {
        let why = subject.choose("calls go through its handle", "it computes when it is called");
        errors.push(token, format!("{subject} cannot be `const fn`: {why}"));
    }
    if let Some(token) = &sig.unsafety {
        let why = subject.choose("workers call it from safe code", "most calls do not run it");
        errors.push(token, format!("{subject} cannot be unsafe: {why}"));
    }
    if let Some(abi) = &sig.abi {
        errors.push(abi, format!("{subject} has to use Rust's own ABI: remove the `extern`"));
    }
    if let Some(variadic) = &sig.variadic {
        let sentence = format!("{subject} cannot take a variable number of arguments: take a `Vec`");
        errors.push(variadic, sentence);
    }
}

fn check_generics(subject: Subject, sig: &Signature, errors: &mut Errors) {
    for param in &sig.generics.params {
        match param {
            GenericParam::Type(param) => errors.push(param, generic_sentence(subject, &sig.ident)),
            GenericParam::Const(param) => {
                let sentence = format!("{subject} cannot have const generics: pass the value as an argument");
                errors.push(param, sentence);
            }
            GenericParam::Lifetime(param) => errors.push_once(param, &subject.no_lifetimes()),
        }
    }
    // With parameters the clause is about them, and goes with them.
    if let (Some(clause), true) = (&sig.generics.where_clause, sig.generics.params.is_empty()) {
        errors.push(clause, format!("{subject} cannot have a where clause: its types are concrete"));
    }
}

fn generic_sentence(subject: Subject, name: &Ident) -> String {
    if subject == Subject::Cached {
        return "a cached function cannot be generic: its values are kept for one concrete signature"
            .to_owned();
    }
    let name = name.unraw();
    format!(
        "a job cannot be generic: it is registered once, for one concrete signature\n\
         help: write one job per type, e.g. `#[cw::job] fn {name}_u64(..) {{ {name}::<u64>(..) }}`"
    )
}
