//! Documents: rescanned, and the rows of tables that take values from them looked at again.

use super::Tail;
use super::read::Search;
use crate::capture::files::{self, Rescan, RescanOptions};
use crate::error::Result;
use crate::interrupt::Stop;
use crate::source::Stored;
use crate::source::discover::Listing;

/// Rows looked for in one transaction.
const SEARCHES_AT_ONCE: usize = 200;

/// Between two looks at a file that is being written, or has just gone, for the last time.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

impl Tail {
    /// Rescans the pack's documents, and looks again at the rows beside those that changed: those
    /// first, so that a crash in between leaves the documents to be found changed.
    pub async fn rescan(&mut self, options: RescanOptions, stop: &Stop) -> Result<Rescan> {
        self.mend().await?;
        let opened = std::sync::Arc::clone(&self.opened);
        let mut scan = Rescan::default();
        for look in 0..=usize::from(options.is_last) {
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let looked =
                files::look(&mut self.conn, &opened, options, &mut self.memory, stop).await?;
            let moved = files::moved(&mut self.conn, &opened.plan.name, &looked).await?;
            if !moved.is_empty() {
                self.look_beside(&looked.listing, &moved, stop).await?;
            }
            let (conn, memory) = (&mut self.conn, &mut self.memory);
            files::apply(conn, &opened, &self.run_id, &looked, memory, stop, &mut scan).await?;
            if scan.is_complete() {
                break;
            }
        }
        Ok(scan)
    }

    async fn look_beside(
        &mut self,
        listing: &Listing,
        moved: &[String],
        stop: &Stop,
    ) -> Result<()> {
        let mut searches = Vec::new();
        for (stream, plan) in self.opened.plan.streams.iter().enumerate() {
            let Some(pattern) = &plan.companion else { continue };
            for name in moved {
                let Some(found) = values_of(pattern, name) else { continue };
                let (names, values) =
                    found.into_iter().map(|(name, text)| (name, Stored::Text(text))).unzip();
                searches.push(Search { stream, names, values });
            }
        }
        if searches.is_empty() {
            return Ok(());
        }
        self.open_files().await?;
        for (stream, plan) in self.opened.plan.streams.iter().enumerate() {
            let Some(found) = listing.companions.get(&plan.name) else { continue };
            for file in &mut self.files {
                file.set_companions(stream, found);
            }
        }
        for at in 0..self.files.len() {
            for part in searches.chunks(SEARCHES_AT_ONCE) {
                stop.check()?;
                while self.step_of(at, part).await?.is_none() {}
            }
        }
        Ok(())
    }
}

/// What the braces of a pattern stand for in a name; None: it does not fit.
fn values_of(pattern: &str, name: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut rest = name;
    let mut pieces = pattern.split('{');
    rest = rest.strip_prefix(pieces.next()?)?;
    let pieces: Vec<(&str, &str)> =
        pieces.map(|piece| piece.split_once('}')).collect::<Option<_>>()?;
    for (at, (column, literal)) in pieces.iter().enumerate() {
        let end = if at + 1 == pieces.len() {
            rest.ends_with(literal).then(|| rest.len() - literal.len())?
        } else {
            rest.find(literal)?
        };
        found.push(((*column).to_owned(), rest.as_bytes()[..end].to_vec()));
        rest = &rest[end + literal.len()..];
    }
    (rest.is_empty() && !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::values_of;

    #[test]
    fn a_name_gives_back_what_its_pattern_was_filled_with() {
        let found = values_of("report-{run}-of-{day}.json", "report-7f-of-monday.json").unwrap();
        assert_eq!(found[0], ("run".to_owned(), b"7f".to_vec()));
        assert_eq!(found[1], ("day".to_owned(), b"monday".to_vec()));
        assert_eq!(values_of("report-{run}.json", "report-.json").unwrap()[0].1, b"");
        assert_eq!(values_of("report-{run}.json", "other-1.json"), None);
        assert_eq!(values_of("report-{run}.json", "report-1.json.tmp"), None);
    }
}
