//! What has to hold at the end.

use std::collections::BTreeMap;

use super::journal;
use super::shop::{DATABASE, Shop};

/// Changes below which a round has proved nothing.
const ACKNOWLEDGED_MIN: u64 = 1_500 + 300;

impl Shop {
    fn assert_holds(&self, held: &BTreeMap<i64, i64>, lines: i64, store: &str) {
        let (allowed, acknowledged) = journal::read(&self.journal());
        assert!(acknowledged > ACKNOWLEDGED_MIN, "only {acknowledged} changes were acknowledged");
        let wrong = journal::wrong(&allowed, held);
        assert!(
            wrong.is_empty(),
            "{store}: {} wrong, {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(10)]
        );
        assert_eq!(lines, 0, "{store}: lines without their order");
        println!("  {acknowledged} acknowledged changes, all of them in {store}");
    }

    /// SQLite is primary: it holds what was acknowledged.
    pub(super) fn assert_sqlite_holds_the_journal(&self) {
        let file = rusqlite::Connection::open(self.sqlite()).unwrap();
        let mut statement = file.prepare("SELECT id, version FROM orders").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let held: BTreeMap<i64, i64> = rows.map(Result::unwrap).collect();
        let query = "SELECT count(*) FROM lines WHERE order_id NOT IN (SELECT id FROM orders)";
        let lines: i64 = file.query_row(query, [], |row| row.get(0)).unwrap();
        self.assert_holds(&held, lines, "SQLite");
    }

    /// Postgres is primary: it holds what was acknowledged.
    pub(super) async fn assert_postgres_holds_the_journal(&self) {
        let orders =
            self.cluster.lines(DATABASE, "SELECT id || ' ' || version FROM shop.orders").await;
        let held: BTreeMap<i64, i64> = orders
            .iter()
            .filter_map(|order| order.split_once(' '))
            .map(|(id, version)| (id.parse().unwrap(), version.parse().unwrap()))
            .collect();
        self.assert_holds(&held, 0, "Postgres");
    }

    /// Every change of phase is in the history, none was forced, and every check that opened a gate
    /// was met when it was opened.
    pub(super) async fn assert_every_phase_has_its_evidence(&self, rolled_back: bool) {
        let query = "SELECT from_phase || '>' || to_phase || ' ' || kind \
                     FROM toolkit.phase_transition WHERE kind <> 'recover' ORDER BY id";
        let history = self.cluster.lines(DATABASE, query).await;
        let last = if rolled_back { "3>2 rollback" } else { "3>4 advance" };
        assert_eq!(history, ["0>1 advance", "1>2 advance", "2>3 advance", last]);
        let query = "SELECT from_phase || ': ' || evidence::text FROM toolkit.phase_transition \
                     WHERE kind = 'advance' AND (evidence IN ('[]', '{}') \
                     OR evidence::text ~ '\"verdict\": \"(missing|unknown)\"')";
        assert_eq!(self.cluster.lines(DATABASE, query).await, Vec::<String>::new());
    }
}
