//! How many there are of something, in words.

use std::fmt::Display;

/// `1 file`, `0 files`, `2 batches`.
pub(crate) fn counted<N: Copy + Display + TryInto<u64>>(count: N, one: &str) -> String {
    let plural = if one.ends_with("ch") { "es" } else { "s" };
    match count.try_into() {
        Ok(1) => format!("1 {one}"),
        _ => format!("{count} {one}{plural}"),
    }
}

/// `1 file is`, `2 files are`.
pub(crate) fn counted_are<N: Copy + Display + TryInto<u64>>(count: N, one: &str) -> String {
    let verb = if matches!(count.try_into(), Ok(1)) { "is" } else { "are" };
    format!("{} {verb}", counted(count, one))
}

#[cfg(test)]
mod tests {
    use super::{counted, counted_are};

    #[test]
    fn one_thing_is_not_several() {
        let shown = [0_u64, 1, 2].map(|count| counted(count, "file"));
        assert_eq!(shown, ["0 files", "1 file", "2 files"]);
        assert_eq!(counted(-1_i64, "row"), "-1 rows");
        assert_eq!(counted(3_usize, "batch"), "3 batches");
        assert_eq!(counted_are(1_i64, "row"), "1 row is");
        assert_eq!(counted_are(0_i64, "row"), "0 rows are");
    }
}
