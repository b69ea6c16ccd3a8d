//! What can be shared, and how it is read.

use std::{any::Any, marker::PhantomData, sync::Arc};

use bytemuck::Pod;
use mmap_guard::FileData;
use serde::de::DeserializeOwned;

use super::Value;

/// What can be shared: any value that serde can decode, and slices of numbers. Nothing else can be made so.
pub trait Shareable: Content + 'static {}

impl<T: Content + ?Sized + 'static> Shareable for T {}

/// How what can be shared is read.
pub trait Content {
    /// The value in what a process holds of it.
    fn of(held: &(dyn Any + Send + Sync)) -> Option<&Self>;

    /// Makes a value of its encoded form.
    ///
    /// # Errors
    /// It is no such value.
    fn read(encoded: FileData) -> Result<Value, String>;
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + Sync + 'static> Content for T {
    fn of(held: &(dyn Any + Send + Sync)) -> Option<&Self> {
        held.downcast_ref()
    }

    fn read(encoded: FileData) -> Result<Value, String> {
        let value: T = postcard::from_bytes(&encoded).map_err(|error| error.to_string())?;
        Ok(Arc::new(value))
    }
}

/// Numbers where the kernel has them, for all processes of a node.
impl<E: Pod + Send + Sync> Content for [E] {
    fn of(held: &(dyn Any + Send + Sync)) -> Option<&Self> {
        held.downcast_ref::<Elements<E>>().map(Elements::get)
    }

    fn read(encoded: FileData) -> Result<Value, String> {
        if bytemuck::try_cast_slice::<u8, E>(&encoded).is_ok() {
            return Ok(Arc::new(Elements::<E>::Mapped(encoded, PhantomData)));
        }
        // What could not be mapped may lie anywhere.
        let size = size_of::<E>();
        if size == 0 || !encoded.len().is_multiple_of(size) {
            return Err(format!("{} bytes are no elements of {size} bytes", encoded.len()));
        }
        Ok(Arc::new(Elements::<E>::Owned(bytemuck::pod_collect_to_vec(&encoded))))
    }
}

/// Elements in this process's memory, or in a mapped file that is known to fit.
pub(super) enum Elements<E> {
    Owned(Vec<E>),
    Mapped(FileData, PhantomData<E>),
}

impl<E: Pod> Elements<E> {
    pub(super) fn get(&self) -> &[E] {
        match self {
            Self::Owned(elements) => elements,
            Self::Mapped(bytes, _) => bytemuck::cast_slice(bytes),
        }
    }
}
