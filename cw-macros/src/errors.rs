//! Collects what is wrong, so that the user reads all of it at once.

use std::fmt::Display;

use quote::ToTokens;

/// The errors of one attribute, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// One sentence, on the tokens that it is about.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, sentence: impl Display) {
        self.add(syn::Error::new_spanned(tokens, sentence));
    }

    /// The same, unless the sentence was said before: for one mistake that shows in many places.
    pub(crate) fn push_once(&mut self, tokens: impl ToTokens, sentence: &str) {
        let mut said = self.0.iter().flatten();
        if !said.any(|error| error.to_string() == sentence) {
            self.push(tokens, sentence);
        }
    }

    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn into_inner(self) -> Option<syn::Error> {
        self.0
    }
}

#[cfg(test)]
impl Errors {
    /// The sentences alone.
    pub(crate) fn sentences(self) -> Vec<String> {
        self.0.into_iter().flatten().map(|error| error.to_string()).collect()
    }
}
