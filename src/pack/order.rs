//! In which order streams are copied.

use crate::pack::fault::Fault;
use crate::pack::manifest::StreamManifest;

/// File order, moved back only where `after` demands it. Names that are not there are faults of
/// their own and are not waited for.
pub(super) fn copy_order(streams: &[StreamManifest]) -> Result<Vec<usize>, Fault> {
    let exists = |name: &str| streams.iter().any(|stream| stream.name.get_ref() == name);
    let mut order: Vec<usize> = Vec::with_capacity(streams.len());
    while order.len() < streams.len() {
        let is_done =
            |name: &str| order.iter().any(|done| streams[*done].name.get_ref().as_str() == name);
        let ready = (0..streams.len()).find(|candidate| {
            let mut after = streams[*candidate].after.iter().map(|name| name.get_ref().as_str());
            !order.contains(candidate) && after.all(|name| is_done(name) || !exists(name))
        });
        let Some(next) = ready else {
            let stuck = (0..streams.len()).filter(|at| !order.contains(at));
            let stuck: Vec<&StreamManifest> = stuck.map(|at| &streams[at]).collect();
            let names: Vec<&str> =
                stuck.iter().map(|stream| stream.name.get_ref().as_str()).collect();
            let at = stuck[0].after.first().map_or(0, |name| name.span().start);
            let detail = format!("`after` goes in a circle among the streams {}", names.join(", "));
            return Err(Fault::new(at, detail));
        };
        order.push(next);
    }
    Ok(order)
}
