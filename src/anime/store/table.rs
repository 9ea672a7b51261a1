//! The tables of the pack that entries become rows of, and how rows are written: all of a wave in
//! one statement per table and kind.

use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::store::{encode_copy_row, sql};

/// A column, and the expression that makes it of a text `$`.
type Column = (&'static str, &'static str);

const UUID: &str = "$::uuid";
const TEXT: &str = "$";
const INT: &str = "$::int";
const INT_OR_ZERO: &str = "coalesce($::int, 0)";
const BOOLEAN_OR_FALSE: &str = "coalesce($::boolean, false)";
const TIME_OR_NOW: &str = "coalesce($::timestamptz, now())";
const JSONB: &str = "$::jsonb";

/// How rows of a table are written.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// Columns at the beginning that an update finds its row by.
    key: usize,
    /// What follows an INSERT.
    conflict: &'static str,
}

pub(super) const ANIME: Table = Table {
    name: "anime",
    columns: &[
        ("id", UUID),
        ("title", TEXT),
        ("title_english", TEXT),
        ("title_japanese", TEXT),
        ("type", TEXT),
        ("status", TEXT),
        ("rating", TEXT),
        ("season", TEXT),
        ("year", INT),
        ("episode_count", INT_OR_ZERO),
        ("duration_seconds", INT),
        ("nsfw", "$::boolean"),
        ("synopsis", TEXT),
        ("background", TEXT),
        ("meta", JSONB),
        ("raw_by_source", JSONB),
    ],
    key: 1,
    conflict: "",
};

pub(super) const EPISODE: Table = Table {
    name: "episode",
    columns: &[
        ("id", UUID),
        ("anime_id", UUID),
        ("episode_number", INT),
        ("season_number", INT),
        ("title", TEXT),
        ("title_japanese", TEXT),
        ("title_romaji", TEXT),
        ("synopsis", TEXT),
        ("aired_at", "$::timestamptz"),
        ("duration_seconds", INT),
        ("filler", BOOLEAN_OR_FALSE),
        ("recap", BOOLEAN_OR_FALSE),
        ("score", "$::numeric"),
        ("meta", JSONB),
        ("raw_by_source", JSONB),
    ],
    key: 2,
    conflict: "",
};

pub(super) const CHARACTER: Table = Table {
    name: "character",
    columns: &[
        ("id", UUID),
        ("name", TEXT),
        ("name_native", TEXT),
        ("description", TEXT),
        ("gender", TEXT),
        ("age", TEXT),
        ("favorites", INT),
        ("meta", JSONB),
        ("raw_by_source", JSONB),
    ],
    key: 1,
    conflict: "",
};

pub(super) const ALIAS: Table = Table {
    name: "character_alias",
    columns: &[("character_id", UUID), ("alias", TEXT)],
    key: 2,
    conflict: " ON CONFLICT DO NOTHING",
};

pub(super) const LINK: Table = Table {
    name: "anime_character",
    columns: &[
        ("anime_id", UUID),
        ("character_id", UUID),
        ("role", TEXT),
        ("billing_order", INT),
        ("meta", JSONB),
    ],
    key: 2,
    conflict: "",
};

pub(super) const XREF: Table = Table {
    name: "anime_xref",
    columns: &[("anime_id", UUID), ("source", TEXT), ("external_id", TEXT), ("url", TEXT)],
    key: 2,
    conflict: "",
};

pub(super) const COMPANY: Table = Table {
    name: "company",
    columns: &[("id", UUID), ("name", TEXT), ("description", TEXT)],
    key: 1,
    conflict: " ON CONFLICT (id) DO UPDATE SET description = EXCLUDED.description \
               WHERE company.description IS NULL AND EXCLUDED.description IS NOT NULL",
};

pub(super) const ANIME_COMPANY: Table = Table {
    name: "anime_company",
    columns: &[("anime_id", UUID), ("company_id", UUID), ("role", TEXT)],
    key: 3,
    conflict: " ON CONFLICT DO NOTHING",
};

pub(super) const ANIME_EDGE: Table = Table {
    name: "anime_relation",
    columns: &[
        ("from_anime_id", UUID),
        ("relation_type", TEXT),
        ("to_ref_source", TEXT),
        ("to_ref_external_id", TEXT),
        ("to_title", TEXT),
        ("to_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
        ("to_anime_type", TEXT),
    ],
    key: 0,
    conflict: "",
};

pub(super) const MANGA_EDGE: Table = Table {
    name: "anime_manga_relation",
    columns: &[
        ("anime_id", UUID),
        ("relation_type", TEXT),
        ("manga_ref_source", TEXT),
        ("manga_ref_external_id", TEXT),
        ("manga_title", TEXT),
        ("manga_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 0,
    conflict: "",
};

pub(super) const WORK_EDGE: Table = Table {
    name: "anime_work_relation",
    columns: &[
        ("anime_id", UUID),
        ("relation_type", TEXT),
        ("work_ref_source", TEXT),
        ("work_ref_external_id", TEXT),
        ("work_title", TEXT),
        ("work_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 0,
    conflict: "",
};

/// Updates of edges: by number, whatever their target.
pub(super) const ANIME_EDGE_CHANGE: Table = Table {
    name: "anime_relation",
    columns: &[
        ("id", "$::bigint"),
        ("to_title", TEXT),
        ("to_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
        ("to_anime_type", TEXT),
    ],
    key: 1,
    conflict: "",
};

pub(super) const MANGA_EDGE_CHANGE: Table = Table {
    name: "anime_manga_relation",
    columns: &[
        ("id", "$::bigint"),
        ("manga_title", TEXT),
        ("manga_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 1,
    conflict: "",
};

pub(super) const WORK_EDGE_CHANGE: Table = Table {
    name: "anime_work_relation",
    columns: &[
        ("id", "$::bigint"),
        ("work_title", TEXT),
        ("work_urls", "$::text[]"),
        ("source_relation_type", TEXT),
        ("meta", JSONB),
    ],
    key: 1,
    conflict: "",
};

pub(super) const STATE: Table = Table {
    name: "anime_ingestion_state",
    columns: &[
        ("anime_id", UUID),
        ("last_run_id", "$::bigint"),
        ("last_enriched_at", "$::timestamptz"),
        ("last_payload_sha256", TEXT),
        ("source_kind", TEXT),
        ("is_derived_id", "$::boolean"),
        ("artifact_date", TEXT),
        ("earlier_payload_sha256", "$::text[]"),
        ("supplement_sha256", TEXT),
        ("ingestion_status", TEXT),
        ("last_ingested_at", TIME_OR_NOW),
    ],
    key: 1,
    conflict: " ON CONFLICT (anime_id) DO UPDATE SET last_run_id = EXCLUDED.last_run_id, \
        last_enriched_at = EXCLUDED.last_enriched_at, \
        last_payload_sha256 = EXCLUDED.last_payload_sha256, source_kind = EXCLUDED.source_kind, \
        artifact_date = EXCLUDED.artifact_date, \
        earlier_payload_sha256 = EXCLUDED.earlier_payload_sha256, \
        supplement_sha256 = EXCLUDED.supplement_sha256, \
        ingestion_status = EXCLUDED.ingestion_status, \
        last_ingested_at = EXCLUDED.last_ingested_at",
};

impl Table {
    fn source(&self) -> String {
        let arrays: Vec<String> =
            (1..=self.columns.len()).map(|n| format!("${n}::text[]")).collect();
        let names: Vec<String> = (1..=self.columns.len()).map(|n| format!("c{n}")).collect();
        format!("unnest({}) AS r ({})", arrays.join(", "), names.join(", "))
    }

    fn copy(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        format!("COPY {} ({}) FROM STDIN", self.name, names.join(", "))
    }

    /// What a value that is missing is copied as.
    fn absent(&self, at: usize) -> Option<&'static str> {
        match self.columns[at].1 {
            INT_OR_ZERO => Some("0"),
            BOOLEAN_OR_FALSE => Some("false"),
            // Of the transaction, as now() is.
            TIME_OR_NOW => Some("now"),
            _ => None,
        }
    }

    fn expression(&self, at: usize) -> String {
        self.columns[at].1.replace('$', &format!("r.c{}", at + 1))
    }

    fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = (0..names.len()).map(|at| self.expression(at)).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}{}",
            self.name,
            names.join(", "),
            values.join(", "),
            self.source(),
            self.conflict
        )
    }

    fn update(&self) -> String {
        let set: Vec<String> = (self.key..self.columns.len())
            .map(|at| format!("{} = {}", self.columns[at].0, self.expression(at)))
            .collect();
        let found: Vec<String> = (0..self.key)
            .map(|at| format!("t.{} = {}", self.columns[at].0, self.expression(at)))
            .collect();
        let stamped = ["anime", "episode", "character", "manga", "original_work"];
        let touch = if stamped.contains(&self.name) { ", updated_at = now()" } else { "" };
        format!(
            "UPDATE {} AS t SET {}{touch} FROM {} WHERE {}",
            self.name,
            set.join(", "),
            self.source(),
            found.join(" AND ")
        )
    }
}

/// Texts by column.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<Vec<Option<String>>>);

impl Batch {
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Option<String>>) {
        for (at, value) in row.into_iter().enumerate() {
            if self.0.len() <= at {
                self.0.push(Vec::new());
            }
            self.0[at].push(value);
        }
    }

    pub(super) async fn insert(self, tx: &mut PgConnection, table: &Table) -> Result<u64> {
        self.run(tx, table.insert()).await
    }

    pub(super) async fn update(self, tx: &mut PgConnection, table: &Table) -> Result<u64> {
        self.run(tx, table.update()).await
    }

    /// Runs a statement over all columns.
    pub(super) async fn execute(self, tx: &mut PgConnection, statement: &str) -> Result<()> {
        self.run(tx, statement.to_owned()).await.map(drop)
    }

    async fn run(self, tx: &mut PgConnection, statement: String) -> Result<u64> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let mut query = sqlx::query(sql(statement));
        for column in self.0 {
            query = query.bind(column);
        }
        Ok(query.execute(tx).await?.rows_affected())
    }
}

/// Rows that are new for certain: they are copied, in half the time of a statement over texts.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    pub(super) fn push(&mut self, table: &Table, row: impl IntoIterator<Item = Option<String>>) {
        let or_absent = |(at, value): (usize, Option<String>)| {
            value.or_else(|| table.absent(at).map(str::to_owned))
        };
        let row: Vec<Option<String>> = row.into_iter().enumerate().map(or_absent).collect();
        encode_copy_row(&row, &mut self.0);
    }

    pub(super) async fn copy(self, tx: &mut PgConnection, table: &Table) -> Result<u64> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let mut copying = tx.copy_in_raw(&table.copy()).await?;
        copying.send(self.0).await?;
        Ok(copying.finish().await?)
    }
}
