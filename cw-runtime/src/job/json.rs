//! What people read of arguments and results in a store: JSON, up to a length.

use std::io;

use serde::Serialize;

/// A JSON text in the making: one value, or an object of named ones.
#[derive(Debug)]
pub struct Json {
    text: Vec<u8>,
    most: usize,
    /// It became too long, or a value has no JSON, like a map whose keys are no texts.
    failed: bool,
}

impl Json {
    /// An empty one of so many bytes at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { text: Vec::new(), most, failed: false }
    }

    /// Adds a named value to the object.
    pub(super) fn add<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        self.put(name);
        self.text.push(b':');
        self.put(value);
    }

    /// Makes it this value.
    pub(super) fn set<T: Serialize>(&mut self, value: &T) {
        self.put(value);
    }

    fn put<T: Serialize + ?Sized>(&mut self, value: &T) {
        if !self.failed {
            let room = Room { text: &mut self.text, most: self.most };
            self.failed = serde_json::to_writer(room, value).is_err();
        }
    }

    /// The text of the value.
    pub(crate) fn into_value(self) -> Option<String> {
        if self.failed { None } else { String::from_utf8(self.text).ok() }
    }

    /// The text of the object.
    pub(crate) fn into_object(mut self) -> Option<String> {
        if self.text.is_empty() {
            self.text.push(b'{');
        }
        self.text.push(b'}');
        self.into_value()
    }
}

/// Takes bytes until there are too many.
struct Room<'a> {
    text: &'a mut Vec<u8>,
    most: usize,
}

impl io::Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn arguments_are_an_object_and_a_result_is_itself() {
        let mut args = Json::new(100);
        args.add("seed", &7);
        args.add("model", "ising");
        assert_eq!(args.into_object().unwrap(), r#"{"seed":7,"model":"ising"}"#);
        assert_eq!(Json::new(100).into_object().unwrap(), "{}");
        let mut value = Json::new(100);
        value.set(&[1, 2]);
        assert_eq!(value.into_value().unwrap(), "[1,2]");
    }

    #[test]
    fn what_is_too_long_or_has_no_json_is_left_out() {
        let mut long = Json::new(10);
        long.set(&"0123456789");
        assert_eq!(long.into_value(), None);
        let mut odd = Json::new(100);
        odd.set(&BTreeMap::from([((1, 2), 3)]));
        assert_eq!(odd.into_value(), None);
    }
}
