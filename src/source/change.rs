//! Whether a `SQLite` file changed: a token of its header and its write-ahead log.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::source::database::{sibling, unreadable_io};

/// What must stay equal while a source without capture is read: change counter and schema cookie
/// of the header, and the state of the write-ahead log.
///
/// Source: <https://www.sqlite.org/fileformat.html>, sections 1.3 and 4.1.
pub fn change_token(path: &Path) -> Result<String> {
    use std::io::Read as _;
    let mut header = [0; 100];
    let mut file = std::fs::File::open(path).map_err(|e| unreadable_io(path, &e))?;
    file.read_exact(&mut header).map_err(|e| unreadable_io(path, &e))?;
    let size = file.metadata().map_err(|e| unreadable_io(path, &e))?.len();
    Ok(format!(
        "size={size} change={} schema={} wal={}",
        hex::encode(&header[24..28]),
        hex::encode(&header[40..44]),
        wal_token(&sibling(path, "-wal"))?
    ))
}

/// Digest of the headers of the log's current frames. Length and file header are not enough: a
/// log that starts over keeps its length, and later commits touch neither.
fn wal_token(path: &Path) -> Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const HEADER_BYTES: usize = 32;
    const FRAME_HEADER_BYTES: usize = 24;
    let unreadable = |e| unreadable_io(path, &e);
    let Ok(file) = std::fs::File::open(path) else { return Ok("0".to_owned()) };
    let mut file = std::io::BufReader::with_capacity(FRAME_HEADER_BYTES, file);
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Ok("0".to_owned());
        }
        Err(error) => return Err(unreadable(error)),
    }
    let page_bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let mut hash = Sha256::new();
    hash.update(header);
    let mut frames = 0_u64;
    let mut frame = [0; FRAME_HEADER_BYTES];
    // Frames of an older generation carry other salts; they end the current one.
    while file.read_exact(&mut frame).is_ok() && frame[8..16] == header[16..24] {
        frames += 1;
        hash.update(frame);
        file.seek(SeekFrom::Current(i64::from(page_bytes))).map_err(unreadable)?;
    }
    Ok(format!("{frames}:{}", hex::encode(hash.finalize())))
}
