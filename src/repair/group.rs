//! The actions of a plan on one output that are carried out together.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::backfill::{OutputRows, RowRef, merge};
use crate::canonical::{Digest, select_expression};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::manifest::ConflictRule;
use crate::pack::plan::OutputPlan;
use crate::repair::apply::{Fate, Source, digest_of};
use crate::repair::plan::{Action, Operation};
use crate::store::{quote_ident, sql};

/// Deletions, or writes, of rows of one output.
#[derive(Debug)]
pub(super) struct Group<'g> {
    pub(super) stream: usize,
    pub(super) output: &'g OutputPlan,
    pub(super) actions: Vec<&'g Action>,
}

impl Group<'_> {
    /// Whether an action belongs here by what it does.
    pub(super) fn is_of(&self, action: &Action) -> bool {
        let deletes = |action: &Action| action.operation == Operation::Delete;
        self.actions.first().is_none_or(|first| deletes(first) == deletes(action))
    }

    /// What becomes of each action. Rows are locked, compared with what the verification saw,
    /// written together, and compared again.
    pub(super) async fn repair(
        &self,
        tx: &mut PgConnection,
        now: &Source,
        writes: bool,
    ) -> Result<Vec<Fate>> {
        let held = self.held(tx, " FOR UPDATE OF t").await?;
        let keys = self.keys_to_delete(tx).await?;
        let mut fates: Vec<Option<Fate>> = (0..self.actions.len())
            .map(|place| self.judge(place, held[place], keys[place], now))
            .collect();
        for (place, why) in self.followers(tx).await? {
            fates[place] = fates[place].take().or(Some(Fate::Refused(why)));
        }
        let chosen: Vec<usize> = (0..fates.len()).filter(|place| fates[*place].is_none()).collect();
        if writes && !chosen.is_empty() {
            for (place, why) in self.write(tx, &chosen, now).await? {
                fates[place] = Some(Fate::Refused(why));
            }
            let after = self.held(tx, "").await?;
            for place in &chosen {
                if fates[*place].is_none() && after[*place] != self.goal(*place) {
                    return Err(self.changed_by_others());
                }
            }
        }
        Ok(fates.into_iter().map(|fate| fate.unwrap_or(Fate::Repaired)).collect())
    }

    /// What the row is to be; None: gone.
    fn goal(&self, place: usize) -> Option<Digest> {
        let action = self.actions[place];
        if action.operation == Operation::Delete {
            return None;
        }
        action.source_digest.as_deref().and_then(digest_of)
    }

    /// Why an action is not carried out; None: it is.
    fn judge(
        &self,
        place: usize,
        held: Option<Digest>,
        key: Option<Digest>,
        now: &Source,
    ) -> Option<Fate> {
        let (action, goal) = (self.actions[place], self.goal(place));
        if self.output.is_content {
            let why = "the table has no key: a backfill adds what is missing; what is extra, or \
                       there too often, must be deleted by hand";
            return Some(Fate::Refused(why.to_owned()));
        }
        if held == goal {
            return Some(Fate::AlreadyRight);
        }
        if held != action.target_digest.as_deref().and_then(digest_of) {
            return Some(Fate::TargetChanged);
        }
        let is_as_seen = match goal {
            None => key.is_none_or(|key| !now.present.contains(&(self.output.unit, key))),
            Some(goal) => now.rows.contains_key(&(self.stream, goal)),
        };
        (!is_as_seen).then_some(Fate::SourceChanged)
    }

    fn changed_by_others(&self) -> Error {
        Error::new(
            ErrorKind::StoreFailed,
            format!(
                "{}: a row is not what was written to it; a trigger or rule of the table changes it",
                self.actions[0].target
            ),
        )
        .advice("nothing of this group of rows was kept; look at the table's triggers")
    }

    /// Writes or deletes the rows; returns those that Postgres refused, with its words.
    async fn write(
        &self,
        tx: &mut PgConnection,
        chosen: &[usize],
        now: &Source,
    ) -> Result<Vec<(usize, String)>> {
        if self.actions[0].operation == Operation::Delete {
            return self.delete(tx, chosen).await;
        }
        let mut rows = OutputRows::default();
        let mut places = HashMap::new();
        for place in chosen {
            let Some(goal) = self.goal(*place) else { continue };
            let Some((_, tuple)) = now.rows.get(&(self.stream, goal)) else { continue };
            let start = rows.buffer.len();
            rows.buffer.extend_from_slice(tuple);
            let (record, end) = (u32::try_from(*place).unwrap_or(u32::MAX), rows.buffer.len());
            rows.rows.push(RowRef { start, end, record, element: 0, digest: goal });
            places.insert(record, *place);
        }
        let chosen = rows.rows.clone();
        let rule = ConflictRule::SourceWins;
        let written = merge(tx, self.output, rule, &rows, chosen, false).await?;
        let refused = written.refused.into_iter();
        Ok(refused
            .filter_map(|(row, refused)| Some((*places.get(&row.record)?, refused.detail)))
            .collect())
    }

    /// All at once; where one cannot go, one by one.
    async fn delete(
        &self,
        tx: &mut PgConnection,
        chosen: &[usize],
    ) -> Result<Vec<(usize, String)>> {
        if self.delete_all(tx, chosen).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for place in chosen {
            if let Some(why) = self.delete_all(tx, std::slice::from_ref(place)).await? {
                refused.push((*place, why));
            }
        }
        Ok(refused)
    }

    /// Why nothing was deleted; None: all are gone.
    async fn delete_all(&self, tx: &mut PgConnection, chosen: &[usize]) -> Result<Option<String>> {
        let keys = self.keys(chosen)?;
        let statement = format!(
            "DELETE FROM {} AS t USING {} WHERE {}",
            self.output.table.sql_name(),
            keys.from,
            keys.condition
        );
        let mut savepoint = tx.begin().await?;
        match keys.bound(&statement).execute(&mut *savepoint).await {
            Ok(_) => {
                savepoint.commit().await?;
                Ok(None)
            }
            Err(error) => {
                savepoint.rollback().await?;
                let error = Error::from(error);
                if error.kind() == ErrorKind::StoreFailed {
                    Ok(Some(error.detail().to_owned()))
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Digests of the target's rows; None where there is none.
    async fn held(&self, conn: &mut PgConnection, lock: &str) -> Result<Vec<Option<Digest>>> {
        let all: Vec<usize> = (0..self.output.columns.len()).collect();
        self.digests(conn, &all, lock).await
    }

    /// Digests of the keys of the target's rows, as the source's keys are digested.
    pub(super) async fn held_keys(&self, conn: &mut PgConnection) -> Result<Vec<Option<Digest>>> {
        self.digests(conn, &self.output.key, "").await
    }

    /// Rows to be deleted that would take others along, or empty their reference: rows that the
    /// plan does not name, or that it deletes later.
    async fn followers(&self, conn: &mut PgConnection) -> Result<Vec<(usize, String)>> {
        if self.actions[0].operation != Operation::Delete {
            return Ok(Vec::new());
        }
        let all: Vec<usize> = (0..self.actions.len()).collect();
        let keys = self.keys(&all)?;
        let target = self.output.table.sql_name();
        let references = sqlx::query(include_str!("../sql/repair/references.sql"))
            .bind(&target)
            .fetch_all(&mut *conn)
            .await?;
        let mut found = Vec::new();
        for reference in references {
            let child: String = reference.try_get("child")?;
            let condition: String = reference.try_get("condition")?;
            let statement = format!(
                "SELECT k.place FROM {}, {target} AS t WHERE {} \
                 AND EXISTS (SELECT FROM {child} AS c WHERE {condition})",
                keys.from, keys.condition
            );
            for row in keys.bound(&statement).fetch_all(&mut *conn).await? {
                let place = usize::try_from(row.try_get::<i64, _>("place")?).unwrap_or(usize::MAX);
                let why = format!(
                    "rows of {child} refer to it, and its foreign key would delete or change them \
                     with it: they come first"
                );
                found.push((place.wrapping_sub(1), why));
            }
        }
        found.retain(|(place, _)| *place < self.actions.len());
        Ok(found)
    }

    async fn keys_to_delete(&self, conn: &mut PgConnection) -> Result<Vec<Option<Digest>>> {
        if self.actions[0].operation == Operation::Delete {
            return self.held_keys(conn).await;
        }
        Ok(vec![None; self.actions.len()])
    }

    async fn digests(
        &self,
        conn: &mut PgConnection,
        positions: &[usize],
        lock: &str,
    ) -> Result<Vec<Option<Digest>>> {
        let all: Vec<usize> = (0..self.actions.len()).collect();
        let keys = self.keys(&all)?;
        let columns: Vec<String> = positions
            .iter()
            .map(|position| &self.output.columns[*position])
            .map(|column| {
                select_expression(column.cast.ty(), &format!("t.{}", quote_ident(&column.name)))
            })
            .collect();
        let statement = format!(
            "SELECT k.place, sha256(record_send(ROW({}))) AS digest FROM {}, {} AS t \
             WHERE {}{lock}",
            columns.join(", "),
            keys.from,
            self.output.table.sql_name(),
            keys.condition
        );
        let mut digests = vec![None; self.actions.len()];
        for row in keys.bound(&statement).fetch_all(conn).await? {
            let place = usize::try_from(row.try_get::<i64, _>("place")?).unwrap_or(usize::MAX);
            let digest: Vec<u8> = row.try_get("digest")?;
            if let (Some(held), Ok(digest)) =
                (digests.get_mut(place.wrapping_sub(1)), digest.try_into())
            {
                *held = Some(digest);
            }
        }
        Ok(digests)
    }

    /// The keys of some actions as a relation `k` beside the target `t`. Place n of `k` is the
    /// nth of `chosen`.
    fn keys(&self, chosen: &[usize]) -> Result<Keys> {
        let mut keys = Keys::default();
        let mut names = Vec::new();
        let mut conditions = Vec::new();
        for position in &self.output.key {
            let column = &self.output.columns[*position];
            let declared = self
                .output
                .catalog_column(*position)
                .map_or_else(|| "text".to_owned(), |column| column.declared_type.clone());
            let values = chosen.iter().map(|place| key_value(self.actions[*place], &column.name));
            let values = values.collect::<Result<Vec<_>>>()?;
            let name = quote_ident(&column.name);
            let key = format!("k.c{}", keys.values.len());
            let equals = format!("t.{name} = {key}::{declared}");
            // Only where a key may be NULL: the index serves the plain comparison.
            conditions.push(if values.iter().any(Option::is_none) {
                format!("({equals} OR (t.{name} IS NULL AND {key} IS NULL))")
            } else {
                equals
            });
            names.push(format!("c{}", keys.values.len()));
            keys.values.push(values);
        }
        let places: Vec<String> =
            (1..=keys.values.len()).map(|place| format!("${place}::text[]")).collect();
        keys.from = format!(
            "unnest({}) WITH ORDINALITY AS k ({}, place)",
            places.join(", "),
            names.join(", ")
        );
        keys.condition = conditions.join(" AND ");
        Ok(keys)
    }
}

/// See [`Group::keys`].
#[derive(Debug, Default)]
struct Keys {
    from: String,
    condition: String,
    values: Vec<Vec<Option<String>>>,
}

impl Keys {
    fn bound(
        &self,
        statement: &str,
    ) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let query = sqlx::query(sql(statement.to_owned()));
        self.values.iter().fold(query, sqlx::query::Query::bind)
    }
}

fn key_value(action: &Action, column: &str) -> Result<Option<String>> {
    match action.key.get(column) {
        Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        _ => Err(Error::new(
            ErrorKind::Usage,
            format!("an action on {} lacks the key column {column}", action.target),
        )
        .advice("remove whole actions from a plan, or make a new one; do not edit keys")),
    }
}
