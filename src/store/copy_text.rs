//! COPY's text form.

/// Appends a row as a line of COPY's text form.
pub(crate) fn encode_copy_row(row: &[Option<String>], line: &mut Vec<u8>) {
    for (at, value) in row.iter().enumerate() {
        if at > 0 {
            line.push(b'\t');
        }
        let Some(value) = value else {
            line.extend_from_slice(b"\\N");
            continue;
        };
        for byte in value.bytes() {
            let escaped = match byte {
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                plain => {
                    line.push(plain);
                    continue;
                }
            };
            line.extend_from_slice(&[b'\\', escaped]);
        }
    }
    line.push(b'\n');
}
