//! Copies the database while it is in use.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    connection::SqliteOpener,
    tables,
    worker::{Worker, WorkerMode},
};
use crate::error::BackendError;

/// Writes a copy into a new file. It has its own thread and connection, so neither loads nor saves wait for it.
pub(super) async fn write(opener: &SqliteOpener, file: PathBuf) -> Result<(), BackendError> {
    let worker = Worker::spawn("faststate-sqlite-backup", opener.clone(), WorkerMode::Read)?;
    let original = opener.file.path().to_owned();
    worker
        .run(move |sqlite, _| {
            let name =
                file.to_str().ok_or_else(|| BackendError::Unfit("its path is not UTF-8".to_owned()))?;
            let copy = create(&original, &file).map_err(not_written)?;
            let written = tables::copy_into(sqlite, name).and_then(|()| copy.sync_all().map_err(not_written));
            if written.is_err() {
                let _ = fs::remove_file(&file);
            }
            written
        })
        .await
}

/// Creates a new file with the permissions of the original.
fn create(original: &Path, file: &Path) -> io::Result<File> {
    let permissions = fs::metadata(original)?.permissions();
    let copy = OpenOptions::new().write(true).create_new(true).open(file)?;
    copy.set_permissions(permissions)?;
    Ok(copy)
}

fn not_written(error: io::Error) -> BackendError {
    BackendError::Backup(Arc::new(error))
}
