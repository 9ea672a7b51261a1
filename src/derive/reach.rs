//! Which pointers of a plan ever reach a value: one that never does is probably misspelt.

use std::collections::BTreeSet;

use crate::derive::resolve::Context;
use crate::json::Json;
use crate::pack::plan::{From, OutputPlan, Scope, StreamPlan};
use crate::source::{Content, SourceRecord};

/// Most member names that are remembered of one stream.
const MEMBERS_MAX: usize = 1_000;

/// What the pointers of one stream reached in the records that were shown to it.
#[derive(Debug)]
pub struct Reach<'p> {
    stream: &'p StreamPlan,
    outputs: Vec<OutputReach<'p>>,
    members: BTreeSet<String>,
    records: u64,
}

#[derive(Debug)]
struct OutputReach<'p> {
    output: &'p OutputPlan,
    elements: u64,
    pointers: Vec<(&'p From, bool)>,
}

/// The pointers of one output that reached nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// Position of the output.
    pub output: usize,
    /// The pointers, as in `pack.toml`. Only `each`, where that reached no element.
    pub pointers: Vec<String>,
}

impl<'p> Reach<'p> {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(stream: &'p StreamPlan) -> Self {
        let outputs = stream.outputs.iter().map(|output| {
            let skip = output.skip.as_ref().map(|(from, _)| from);
            let columns = output.columns.iter().flat_map(|column| &column.from);
            let mut pointers: Vec<(&From, bool)> = Vec::new();
            for from in columns.chain(&output.when).chain(skip) {
                let is_pointer = matches!(from, From::Pointer { .. });
                if is_pointer && !pointers.iter().any(|(known, _)| *known == from) {
                    pointers.push((from, false));
                }
            }
            OutputReach { output, elements: 0, pointers }
        });
        let outputs = outputs.collect();
        Self { stream, outputs, members: BTreeSet::new(), records: 0 }
    }

    /// Looks at one more record.
    pub fn see(&mut self, record: &SourceRecord<'_>) {
        let (element, root) = match &record.content {
            Content::Columns { companion: Some(companion), .. } => (None, *companion),
            Content::Json { element, root, .. } => (Some(*element), *root),
            _ => return,
        };
        self.records += 1;
        if let Some(Json::Object(members)) = element {
            for (name, _) in members {
                if self.members.len() < MEMBERS_MAX {
                    self.members.insert(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        let computed = element.and_then(|element| self.stream.compute?(element).ok());
        let context = Context {
            file: record.file,
            names: &[],
            values: &[],
            element,
            root: Some(root),
            computed: computed.as_ref(),
            element_key: None,
        };
        for output in &mut self.outputs {
            output.see(&context);
        }
    }

    /// Records seen that have a document.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The pointers that reached nothing so far.
    #[must_use]
    pub fn unreached(&self) -> Vec<Unreached> {
        let mut found = Vec::new();
        for (position, reach) in self.outputs.iter().enumerate() {
            let unfruitful = reach.output.each.as_ref().filter(|_| reach.elements == 0);
            let pointers: Vec<String> = if let Some(each) = unfruitful {
                vec![each.to_string()]
            } else {
                let missed = reach.pointers.iter().filter(|(_, reached)| !reached);
                missed.map(|(from, _)| from.to_string()).collect()
            };
            if !pointers.is_empty() {
                found.push(Unreached { output: position, pointers });
            }
        }
        found
    }

    /// Members of the records themselves that no pointer leads into. None are known where a
    /// function sees the whole record.
    #[must_use]
    pub fn unmapped_members(&self) -> Vec<&str> {
        if self.stream.compute.is_some() {
            return Vec::new();
        }
        let pointers: Vec<&str> = self.outputs.iter().flat_map(OutputReach::of_record).collect();
        let is_mapped = |member: &str| {
            let step = format!("/{}", member.replace('~', "~0").replace('/', "~1"));
            pointers.iter().any(|pointer| {
                pointer
                    .strip_prefix(&step)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        if pointers.contains(&"") {
            return Vec::new();
        }
        self.members.iter().map(String::as_str).filter(|member| !is_mapped(member)).collect()
    }
}

impl<'p> OutputReach<'p> {
    fn see(&mut self, context: &Context<'_>) {
        let Some(each) = &self.output.each else {
            return self.see_row(context);
        };
        for (key, element) in context.members(each) {
            self.elements += 1;
            self.see_row(&Context { element: Some(element), element_key: key, ..*context });
        }
    }

    fn see_row(&mut self, context: &Context<'_>) {
        for (from, reached) in &mut self.pointers {
            *reached = *reached || context.pointed(from).is_some();
        }
    }

    /// Pointers into the record itself, or the document it stands in.
    fn of_record(&self) -> impl Iterator<Item = &'p str> {
        let inner = self.output.each.is_some();
        let all = self.pointers.iter().map(|(from, _)| *from).chain(&self.output.each);
        all.filter_map(move |from| match from {
            From::Pointer { scope: Scope::Root, pointer } => Some(pointer.as_str()),
            From::Pointer { scope: Scope::Element, pointer } => {
                let is_each = self.output.each.as_ref() == Some(from);
                (!inner || is_each).then_some(pointer.as_str())
            }
            _ => None,
        })
    }
}
