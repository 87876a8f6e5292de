//! Files of a test's own.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// A file of a test's own, taken away at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("load-{}-{name}", std::process::id()));
        Scratch(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub fn read(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.read()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It's not there where none was to be written.
        let _ = fs::remove_file(&self.0);
    }
}
