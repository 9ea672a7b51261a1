//! What the pointers of a stream's columns reach in its documents.

use crate::derive::resolve::Context;
use crate::json::Json;
use crate::pack::plan::{From, StreamPlan};
use crate::source::{Content, SourceRecord};

/// One pointer of one output's columns.
#[derive(Debug, Clone, Copy)]
pub struct Pointer<'p> {
    /// Position of the output.
    pub output: usize,
    /// The pointer.
    pub from: &'p From,
}

/// The pointers of a stream's columns, each once per output.
#[derive(Debug)]
pub struct Pointers<'p> {
    stream: &'p StreamPlan,
    pointers: Vec<Pointer<'p>>,
}

/// Receives what pointer number so-and-so reaches in an element; None is nothing.
pub type PointedVisitor<'v> = dyn FnMut(usize, u32, Option<&Json>) + 'v;

impl<'p> Pointers<'p> {
    /// The pointers of `stream`.
    #[must_use]
    pub fn new(stream: &'p StreamPlan) -> Self {
        let mut pointers: Vec<Pointer<'p>> = Vec::new();
        for (position, output) in stream.outputs.iter().enumerate() {
            for from in output.columns.iter().flat_map(|column| &column.from) {
                let is_known = |known: &Pointer<'_>| known.output == position && known.from == from;
                if matches!(from, From::Pointer { .. }) && !pointers.iter().any(is_known) {
                    pointers.push(Pointer { output: position, from });
                }
            }
        }
        Self { stream, pointers }
    }

    /// All of them, in the order of their numbers.
    #[must_use]
    pub fn all(&self) -> &[Pointer<'p>] {
        &self.pointers
    }

    /// Shows what every pointer reaches in `record`, element by element; nothing where the record
    /// has no document.
    pub fn visit(&self, record: &SourceRecord<'_>, visit: &mut PointedVisitor<'_>) {
        let (element, root) = match &record.content {
            Content::Columns { companion: Some(companion), .. } => (None, *companion),
            Content::Json { element, root, .. } => (Some(*element), *root),
            _ => return,
        };
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
        for (position, output) in self.stream.outputs.iter().enumerate() {
            let Some(each) = &output.each else {
                self.visit_row(position, 0, &context, visit);
                continue;
            };
            for (number, (_, element)) in context.members(each).into_iter().enumerate() {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let inner = Context { element: Some(element), ..context };
                self.visit_row(position, number, &inner, visit);
            }
        }
    }

    fn visit_row(
        &self,
        output: usize,
        element: u32,
        context: &Context<'_>,
        visit: &mut PointedVisitor<'_>,
    ) {
        for (number, pointer) in self.pointers.iter().enumerate() {
            if pointer.output == output {
                visit(number, element, context.pointed(pointer.from));
            }
        }
    }
}
