//! How far replicas are behind: what they say, and what is to be seen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use crate::error::Result;

/// Ends of the log that are remembered; looked at once a second, for more than an hour.
const SEEN_MAX: usize = 4_096;

/// The ends of the log as they were seen, by this machine's clock.
///
/// The lag that a server reports is the one its replica last told it: of one that is frozen, or cut
/// off, it stays as small as it was. So a replica is also behind by as long as the oldest part of the
/// log is there that it is not known to have replayed.
#[derive(Debug, Default)]
pub(super) struct Lag {
    seen: VecDeque<(Instant, i64)>,
}

/// A replica, as the server has it.
struct Replica {
    name: String,
    said: Option<f64>,
    replayed: i64,
}

impl Lag {
    /// The replica that is furthest behind, and how far; None: there is none that lacks anything.
    pub(super) async fn largest(
        &mut self,
        conn: &mut PgConnection,
    ) -> Result<Option<(String, Duration)>> {
        let rows: Vec<(String, Option<f64>, i64, i64)> =
            sqlx::query_as(include_str!("../sql/manners/replicas.sql")).fetch_all(conn).await?;
        let Some(end) = rows.iter().map(|row| row.3).max() else { return Ok(None) };
        let replicas: Vec<Replica> = rows
            .into_iter()
            .map(|(name, said, replayed, _)| Replica { name, said, replayed })
            .collect();
        Ok(self.judge(&replicas, end, Instant::now()))
    }

    fn judge(
        &mut self,
        replicas: &[Replica],
        end: i64,
        now: Instant,
    ) -> Option<(String, Duration)> {
        let slowest = replicas.iter().map(|replica| replica.replayed).min().unwrap_or(end);
        while self.seen.front().is_some_and(|(_, end)| *end <= slowest) {
            self.seen.pop_front();
        }
        if self.seen.back().is_none_or(|(_, last)| *last < end) && end > slowest {
            if self.seen.len() >= SEEN_MAX {
                // The oldest tells how far behind; what lies between is told less finely.
                let mut nth = 0;
                self.seen.retain(|_| {
                    nth += 1;
                    nth % 2 == 1
                });
            }
            self.seen.push_back((now, end));
        }
        let behind = |replica: &Replica| {
            let said = replica.said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let lacks = self.seen.iter().find(|(_, end)| *end > replica.replayed);
            let seen = lacks.map(|(at, _)| now.saturating_duration_since(*at));
            said.max(seen)
        };
        replicas
            .iter()
            .filter_map(|replica| Some((replica.name.clone(), behind(replica)?)))
            .max_by_key(|(_, behind)| *behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, said: Option<f64>, replayed: i64) -> Replica {
        Replica { name: name.to_owned(), said, replayed }
    }

    #[test]
    fn a_replica_that_says_nothing_more_is_behind_by_what_it_was_not_seen_to_replay() {
        let mut lag = Lag::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let told = |found: Option<(String, Duration)>| {
            found.map(|(name, behind)| (name, behind.as_secs_f64().round()))
        };
        let idle = [replica("a", None, 100)];
        assert_eq!(told(lag.judge(&idle, 100, at(0))), None);
        // An hour of silence with nothing to replay is no lag.
        assert_eq!(told(lag.judge(&idle, 100, at(3_600))), None);
        let frozen = [replica("a", Some(0.2), 100)];
        let said = told(lag.judge(&frozen, 200, at(3_601)));
        assert_eq!(said, Some(("a".to_owned(), 0.0)));
        assert_eq!(told(lag.judge(&frozen, 300, at(3_603))), Some(("a".to_owned(), 2.0)));
        // Part of it replayed: behind by what came after.
        let moved = [replica("a", Some(0.2), 200)];
        assert_eq!(told(lag.judge(&moved, 300, at(3_604))), Some(("a".to_owned(), 1.0)));
        // What a replica says counts if it is more.
        let two = [replica("a", Some(0.2), 300), replica("b", Some(9.0), 299)];
        assert_eq!(told(lag.judge(&two, 300, at(3_604))), Some(("b".to_owned(), 9.0)));
        let all = [replica("a", None, 300), replica("b", None, 300)];
        assert_eq!(told(lag.judge(&all, 300, at(3_605))), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_is_kept() {
        let mut lag = Lag::default();
        let begun = Instant::now();
        let frozen = [replica("a", None, 0)];
        let mut last = None;
        for second in 0..20_000 {
            let now = begun + Duration::from_secs(second);
            last = lag.judge(&frozen, i64::try_from(second).unwrap() + 1, now);
        }
        assert!(lag.seen.len() <= SEEN_MAX);
        assert_eq!(last, Some(("a".to_owned(), Duration::from_secs(19_999))));
    }
}
