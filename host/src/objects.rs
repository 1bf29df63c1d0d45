//! Objects as files: `objects/BUCKET/KEY` in the data folder, where the slashes of a key are folders.
//!
//! In: names that lead nowhere else ([`ObjectName`]). Every folder on the way is opened from the one
//! above it and no link is followed, so that whoever can put links there leads the host nowhere.
//! A key cannot name a file and a folder. Drafts lie in `objects/.drafts`, which is no bucket.

use async_trait::async_trait;
use bytes::Bytes;
use gnomon_core::provisioning::{Chunk, ObjectError, ObjectName, Objects};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DRAFTS: &str = ".drafts";

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// The objects of a data folder; clones share it.
#[derive(Clone, Debug)]
pub struct FileObjects(Arc<Root>);

#[derive(Debug)]
struct Root {
    folder: OwnedFd,
    drafts: OwnedFd,
    /// Drafts of this process are told apart by it.
    next_draft: AtomicU64,
}

impl FileObjects {
    /// The objects below this folder, which is made unless it is there.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path.join(DRAFTS))?;
        let folder = OwnedFd::from(File::open(path)?);
        let drafts = openat(&folder, DRAFTS, FOLDER, Mode::empty())?;
        Ok(Self(Arc::new(Root { folder, drafts, next_draft: AtomicU64::new(0) })))
    }

    /// Removes what a host that was cut off had begun to write. Nobody else may be writing.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_drafts(path: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(path.join(DRAFTS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a file's content as an object.
    ///
    /// # Errors
    /// As the system says.
    pub fn copy_from(&self, name: &ObjectName, path: &Path) -> io::Result<u64> {
        let mut source = File::open(path)?;
        let mut bytes = 0;
        self.0.write(name, |file| {
            bytes = io::copy(&mut source, file)?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Runs where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &ObjectName,
        work: impl FnOnce(&Root, &ObjectName) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let (root, own) = (self.0.clone(), name.clone());
        let done = tokio::task::spawn_blocking(move || work(&root, &own)).await;
        done.map_err(io::Error::other).and_then(|done| done).map_err(|error| match error.kind() {
            // A folder is no object, and below a file there is none.
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => ObjectError::NotFound(name.clone()),
            io::ErrorKind::UnexpectedEof => ObjectError::Changed(name.clone()),
            _ => ObjectError::Failed { name: name.clone(), reason: error.to_string() },
        })
    }
}

#[async_trait]
impl Objects for FileObjects {
    async fn read(&self, name: &ObjectName, at: u64, max: usize) -> Result<Chunk, ObjectError> {
        self.blocking(name, move |root, name| root.read(name, at, max)).await
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        let done =
            self.blocking(name, move |root, name| root.write(name, |file| file.write_all(&bytes)));
        done.await.map_err(made)
    }

    async fn append(&self, name: &ObjectName, at: u64, bytes: Bytes) -> Result<(), ObjectError> {
        self.blocking(name, move |root, name| root.append(name, at, &bytes)).await.map_err(made)
    }

    async fn delete(&self, name: &ObjectName) -> Result<bool, ObjectError> {
        match self.blocking(name, Root::delete).await {
            Ok(()) => Ok(true),
            Err(ObjectError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whoever makes an object is not told that there is none.
fn made(error: ObjectError) -> ObjectError {
    match error {
        ObjectError::NotFound(name) => ObjectError::Failed {
            name,
            reason: "its key names a folder, or leads through a file".to_owned(),
        },
        error => error,
    }
}

impl Root {
    /// The folder that the object is in, and the name of its file there.
    fn folder_of<'a>(&self, name: &'a ObjectName, makes: bool) -> io::Result<(OwnedFd, &'a str)> {
        let mut segments = name.segments().peekable();
        let mut next = Some(name.bucket());
        let mut folder = self.folder.try_clone()?;
        while let Some(segment) = next {
            if makes {
                match mkdirat(&folder, segment, Mode::from_raw_mode(0o700)) {
                    Ok(()) => fsync(&folder)?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            folder = openat(&folder, segment, FOLDER, Mode::empty())?;
            next = segments.next();
            if segments.peek().is_none() {
                break;
            }
        }
        // A key has at least one segment.
        Ok((folder, next.unwrap_or_default()))
    }

    fn read(&self, name: &ObjectName, at: u64, max: usize) -> io::Result<Chunk> {
        let (folder, file) = self.folder_of(name, false)?;
        // Not blocking: a pipe would wait for somebody who writes.
        let flags = FILE | OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(openat(&folder, file, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let size = metadata.len();
        let rest = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; rest.min(max)];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Chunk { bytes: bytes.into(), size })
    }

    fn write(
        &self,
        name: &ObjectName,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let (folder, target) = self.folder_of(name, true)?;
        let number = self.next_draft.fetch_add(1, Ordering::Relaxed);
        let draft = format!("{}-{number}", std::process::id());
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(openat(&self.drafts, &*draft, flags, mode)?);
        let written = fill(&mut file)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&self.drafts, &*draft, &folder, target)?));
        if written.is_err() {
            // What went wrong is told already.
            let _ = unlinkat(&self.drafts, &*draft, AtFlags::empty());
        }
        written?;
        Ok(fsync(&folder)?)
    }

    fn append(&self, name: &ObjectName, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (folder, file) = self.folder_of(name, true)?;
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE;
        let file = File::from(openat(&folder, file, flags, Mode::from_raw_mode(0o600))?);
        if file.metadata()?.len() < at {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.set_len(at)?;
        file.write_all_at(bytes, at)?;
        file.sync_all()?;
        if at == 0 {
            fsync(&folder)?;
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> io::Result<()> {
        let (folder, file) = self.folder_of(name, false)?;
        unlinkat(&folder, file, AtFlags::empty())?;
        Ok(fsync(&folder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn name(key: &str) -> ObjectName {
        ObjectName::parse("imports", key).unwrap()
    }

    fn objects() -> (TempDir, FileObjects) {
        let folder = TempDir::new().unwrap();
        let objects = FileObjects::open(&folder.path().join("objects")).unwrap();
        (folder, objects)
    }

    #[tokio::test]
    async fn an_object_is_a_file_below_its_bucket() {
        let (folder, objects) = objects();
        let missing = Err(ObjectError::NotFound(name("a/b")));
        assert_eq!(objects.read(&name("a/b"), 0, 9).await, missing);
        objects.put(&name("a/b"), "one".into()).await.unwrap();
        objects.put(&name("a/b"), "two three".into()).await.unwrap();
        let file = folder.path().join("objects/imports/a/b");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two three");
        for (at, max, expected) in [(0, 3, "two"), (4, 99, "three"), (9, 1, ""), (99, 1, "")] {
            let chunk = objects.read(&name("a/b"), at, max).await.unwrap();
            assert_eq!((&*chunk.bytes, chunk.size), (expected.as_bytes(), 9), "{at} {max}");
        }
        assert_eq!(objects.delete(&name("a/b")).await, Ok(true));
        assert_eq!(objects.delete(&name("a/b")).await, Ok(false));
        let drafts = fs::read_dir(folder.path().join("objects/.drafts")).unwrap();
        assert_eq!(drafts.count(), 0);
        fs::write(&file, "from a file").unwrap();
        assert_eq!(objects.copy_from(&name("c"), &file).unwrap(), 11);
        assert_eq!(objects.read(&name("c"), 0, 99).await.unwrap().bytes, "from a file");
    }

    #[tokio::test]
    async fn what_is_appended_takes_the_place_of_what_was_behind() {
        let (_folder, objects) = objects();
        let report = name("a.results.1");
        for (at, text, expected) in
            [(0, "ab", "ab"), (2, "cd", "abcd"), (3, "xyz", "abcxyz"), (1, "", "a")]
        {
            objects.append(&report, at, text.into()).await.unwrap();
            assert_eq!(objects.read(&report, 0, 99).await.unwrap().bytes, expected);
        }
        let changed = Err(ObjectError::Changed(report.clone()));
        assert_eq!(objects.append(&report, 2, "x".into()).await, changed);
    }

    #[tokio::test]
    async fn no_link_is_followed_and_no_folder_is_an_object() {
        let (folder, objects) = objects();
        objects.put(&name("a/b"), "x".into()).await.unwrap();
        let secret = folder.path().join("secret");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "secret").unwrap();
        let bucket = folder.path().join("objects/imports");
        symlink(&secret, bucket.join("folder")).unwrap();
        symlink(secret.join("key"), bucket.join("file")).unwrap();
        symlink(&secret, folder.path().join("objects/linked")).unwrap();
        let linked = ObjectName::parse("linked", "key").unwrap();
        for object in [name("folder/key"), name("file"), linked, name("a"), name("a/b/c")] {
            assert!(objects.read(&object, 0, 9).await.is_err(), "{object}");
            assert!(objects.append(&object, 0, "y".into()).await.is_err(), "{object}");
        }
        for object in [name("folder/key"), name("folder/new"), name("a"), name("a/b/c")] {
            assert!(objects.put(&object, "y".into()).await.is_err(), "{object}");
            assert_ne!(objects.delete(&object).await, Ok(true), "{object}");
        }
        // A link is replaced, and what it led to stays.
        objects.put(&name("file"), "y".into()).await.unwrap();
        assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "secret");
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_pipe_is_no_object() {
        let (folder, objects) = objects();
        objects.put(&name("a"), "x".into()).await.unwrap();
        let pipe = folder.path().join("objects/imports/pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
        assert_eq!(
            objects.read(&name("pipe"), 0, 1).await,
            Err(ObjectError::NotFound(name("pipe")))
        );
    }
}
