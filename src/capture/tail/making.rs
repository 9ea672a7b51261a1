//! One stream's part of a batch in the making: keys that were named, rows that are there now.

use std::collections::HashSet;
use std::sync::Arc;

use super::file::{LiveFile, LiveStream};
use super::read::StreamBatch;
use crate::cast::Value;
use crate::derive::{Derived, DerivedKey, Deriver};
use crate::error::Result;
use crate::source::{Content, Locator, Position, SourceRecord, Stored};

/// One stream's part of it.
pub(super) struct Making<'a> {
    pub(super) deriver: Deriver<'a>,
    pub(super) derived: Derived,
    pub(super) batch: StreamBatch,
    /// Records that are in the chunk.
    pub(super) seen: HashSet<(String, Locator)>,
    /// What was searched for.
    pub(super) searched: HashSet<Vec<u8>>,
    pub(super) places: HashSet<(String, String)>,
}

impl Making<'_> {
    /// The keys of a row with these values; they are looked after whether or not it is there.
    pub(super) fn name_keys(&mut self, file: &LiveFile, live: &LiveStream, values: &[Stored]) {
        let values: Vec<Value<'_>> = values.iter().map(value_of).collect();
        let record = SourceRecord {
            file: &file.source,
            locator: Locator::Rowid(0),
            position: Position::Rowid(0),
            content: Content::Columns { names: &live.names, values: &values, companion: None },
        };
        for key in self.deriver.keys(&record) {
            self.add_key(key);
        }
    }

    fn add_key(&mut self, key: DerivedKey) {
        let output = &self.deriver.stream().outputs[key.output];
        let digest = output.layout.key_digest(&key.fields);
        self.batch.keys.entry((key.output, digest)).or_insert(key.fields);
    }

    /// Adds the rows that are found by these columns; `is_identity`: and says which row was meant.
    pub(super) fn fetch(
        &mut self,
        file: &LiveFile,
        live: &LiveStream,
        names: &[String],
        values: &[Stored],
        is_identity: bool,
    ) -> Result<()> {
        if is_identity {
            let locator = live.shape.locator_of(values).to_string();
            self.places.insert((file.source.relative.clone(), locator));
        }
        if !self.searched.insert(search_key(file, names, values)) {
            return Ok(());
        }
        let (deriver, derived, batch, seen) =
            (&mut self.deriver, &mut self.derived, &mut self.batch, &mut self.seen);
        let mut found = Vec::new();
        live.shape.visit_where(&file.database, names, values, &mut |record| {
            if !seen.insert((file.source.relative.clone(), record.locator.clone())) {
                return Ok(());
            }
            deriver.derive(record, derived)?;
            let source = Arc::from(record.file.relative.as_str());
            let plan = deriver.stream();
            batch.chunk.add(plan, record, derived, deriver, &source);
            batch.identities.push((file.source.relative.clone(), record.position.clone()));
            found.push((file.source.relative.clone(), record.locator.to_string()));
            for key in deriver.keys(record) {
                let digest = plan.outputs[key.output].layout.key_digest(&key.fields);
                batch.keys.entry((key.output, digest)).or_insert(key.fields);
            }
            Ok(())
        })?;
        self.places.extend(found);
        Ok(())
    }
}

fn search_key(file: &LiveFile, names: &[String], values: &[Stored]) -> Vec<u8> {
    let mut key = format!("{}\0{}\0", file.source.relative, names.join("\0")).into_bytes();
    for value in values {
        let (tag, bytes): (u8, Vec<u8>) = match value {
            Stored::Null => (0, Vec::new()),
            Stored::Integer(number) => (1, number.to_be_bytes().to_vec()),
            Stored::Real(number) => (2, number.to_bits().to_be_bytes().to_vec()),
            Stored::Text(text) => (3, text.clone()),
            Stored::Blob(blob) => (4, blob.clone()),
        };
        key.push(tag);
        key.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        key.extend_from_slice(&bytes);
    }
    key
}

fn value_of(value: &Stored) -> Value<'_> {
    match value {
        Stored::Null => Value::Null,
        Stored::Integer(number) => Value::Integer(*number),
        Stored::Real(number) => Value::Real(*number),
        Stored::Text(text) => Value::Text(text),
        Stored::Blob(blob) => Value::Blob(blob),
    }
}
