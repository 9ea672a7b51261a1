//! What `pack.toml` says about upkeep, checked.

use crate::pack::Pack;
use crate::pack::fault::Fault;

/// Months ahead at most.
const MONTHS_AHEAD_MAX: u32 = 120;

/// What is wrong with the upkeep of a pack's text.
pub(crate) fn faults(pack: &Pack) -> Vec<Fault> {
    let mut faults = Vec::new();
    for partition in &pack.manifest.partitions {
        let at = partition.table.span().start;
        if split_table(partition.table.get_ref()).is_none() {
            faults.push(not_a_table(at, partition.table.get_ref()));
        }
        if partition.months_ahead > MONTHS_AHEAD_MAX {
            let detail = format!("months_ahead is more than {MONTHS_AHEAD_MAX}");
            faults.push(Fault::new(at, detail));
        }
    }
    for retention in &pack.manifest.retention {
        if split_table(retention.table.get_ref()).is_none() {
            faults.push(not_a_table(retention.table.span().start, retention.table.get_ref()));
        }
        if interval(retention.keep.get_ref()).is_none() {
            let detail = format!("{:?} is no time to keep rows for", retention.keep.get_ref());
            faults.push(
                Fault::new(retention.keep.span().start, detail)
                    .advice("write a number and days, weeks, months or years: `180 days`"),
            );
        }
    }
    faults
}

fn not_a_table(at: usize, name: &str) -> Fault {
    Fault::new(at, format!("`{name}` is not `schema.table`"))
}

/// `schema.table` in its two parts.
pub(crate) fn split_table(name: &str) -> Option<(&str, &str)> {
    name.split_once('.').filter(|(schema, table)| !schema.is_empty() && !table.is_empty())
}

/// The text as an interval of Postgres's, if it is one of the forms that are taken.
pub(crate) fn interval(keep: &str) -> Option<String> {
    let (number, unit) = keep.trim().split_once(' ')?;
    let number: u32 = number.parse().ok().filter(|number| (1..=100_000).contains(number))?;
    let unit = unit.trim().trim_end_matches('s');
    ["day", "week", "month", "year"].contains(&unit).then(|| format!("{number} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_spans_of_time_are_taken() {
        assert_eq!(interval("180 days").as_deref(), Some("180 day"));
        assert_eq!(interval("1 month").as_deref(), Some("1 month"));
        for text in
            ["", "0 days", "-3 days", "days", "3", "3 hours", "3 days; DROP TABLE x", "1e9 days"]
        {
            assert_eq!(interval(text), None, "{text}");
        }
    }
}
