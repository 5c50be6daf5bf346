//! A `cpio` archive in the `newc` format, which the kernel unpacks into its initial file system
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written. Everything in it belongs to root.
pub(super) struct Archive<W> {
    to: W,
    /// Written paths, so that no path is written twice.
    names: BTreeSet<PathBuf>,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        let (names, inode) = (BTreeSet::new(), 0);
        Self { to, names, inode }
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.names.contains(path)
    }

    /// Adds a directory, and its parents.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        if path.parent().is_none() || self.contains(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.entry(path, DIRECTORY, &[])
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &Path, target: &str) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, LINK, target.as_bytes())
    }

    /// Adds an executable file with these contents.
    pub(super) fn bytes(&mut self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, PROGRAM, contents)
    }

    /// Adds a copy of `source`.
    pub(super) fn file(&mut self, path: &Path, source: &Path) -> io::Result<()> {
        self.bytes(path, &fs::read(source)?)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.header(TRAILER, 0, 0)?;
        self.to.flush()
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
        if !self.names.insert(path.to_owned()) {
            return Ok(());
        }
        let name = path.to_string_lossy();
        let length = u32::try_from(contents.len()).map_err(io::Error::other)?;
        self.header(name.trim_start_matches('/'), mode, length)?;
        self.to.write_all(contents)?;
        self.pad(contents.len())
    }

    /// Magic, inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum.
    fn header(&mut self, name: &str, mode: u32, size: u32) -> io::Result<()> {
        self.inode += 1;
        let name_length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_length, 0];
        write!(self.to, "070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        write!(self.to, "{name}\0")?;
        self.pad(6 + 8 * fields.len() + name.len() + 1)
    }

    /// Names and contents start at multiples of four.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..length.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_format_that_the_kernel_reads() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.bytes(Path::new("/a/b"), b"hello").unwrap();
        archive.link(Path::new("/a/l"), "b").unwrap();
        archive.directory(Path::new("/a")).unwrap();
        assert!(archive.contains(Path::new("/a")) && !archive.contains(Path::new("/b")));
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        // Each entry starts with the magic. The directory is the first, once; the trailer is the last.
        let entries: Vec<_> = text.split("070701").skip(1).collect();
        assert_eq!(entries.len(), 4);
        for (entry, name) in entries.iter().zip(["a\0", "a/b\0", "a/l\0", "TRAILER!!!\0"]) {
            assert_eq!(&entry[104..104 + name.len()], name);
        }
        assert_eq!(&entries[1][8..16], "000081ed", "an executable file");
        assert_eq!(&entries[1][48..56], "00000005", "its length");
        assert!(entries[1].ends_with("hello\0\0\0"));
    }
}
