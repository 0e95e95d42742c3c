//! Files of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::path;

/// A directory for the files of one test, which is removed with them at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Creates a directory that has `name` in its name.
    pub(crate) fn new(name: &str) -> Self {
        // One of a process of the same number may have been left.
        let mut paths =
            (0..).map(|n| std::env::temp_dir().join(format!("udp-tools-{name}-{}-{n}", std::process::id())));
        Self(paths.find(|path| fs::create_dir(path).is_ok()).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a copy of one of our tools. cp(1) makes it: a program that another test starts while this
    /// process has the copy open for writing keeps it open, and then it cannot be run.
    pub(crate) fn copy_of_tool(&self, name: &str) -> PathBuf {
        let copy = self.file(name);
        assert!(Command::new("cp").arg(path(name)).arg(&copy).status().unwrap().success());
        copy
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates a named pipe.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.file(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Returns how many files there are.
    pub(crate) fn count(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
