//! `toolkit bench`: measures on the user's own data.

use clap::Subcommand;

use super::record::on_connection;
use super::{Outcome, Output, Report, output};
use crate::config::Settings;
use crate::error::Result;
use crate::graph::bench::{self, Benchmark};

/// Arguments of `toolkit bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The graph primitives at their caps, from random nodes and from the greatest hubs
    #[command(after_long_help = "\
It only reads. Percentiles are of whole calls, as a caller waits for them, on one connection. Exit 1
says that an ask does not hold on this machine and data.")]
    Graph {
        /// Random starts per primitive
        #[arg(long, value_name = "N", default_value_t = 1_000,
              value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        starts: u32,
        /// Seed of the random starts
        #[arg(long, value_name = "N", default_value_t = 7)]
        seed: u64,
    },
}

/// Runs `toolkit bench`.
pub async fn run(args: Args, settings: &Settings, output: &Output) -> Result<Outcome> {
    let What::Graph { starts, seed } = args.what;
    let measured = on_connection(settings, output, async |connection| {
        bench::run(connection, starts as usize, seed, output.stop()).await
    })
    .await?;
    output.report(&measured)?;
    Ok(if measured.holds { Outcome::Success } else { Outcome::Differences })
}

impl Report for Benchmark {
    fn text(&self) -> String {
        let mut table = output::table([
            "primitive",
            "starts",
            "n",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "max ms",
            "over 2 s",
            "truncated",
            "ask p99 ms",
            "verdict",
        ]);
        for row in &self.measured {
            table.add_row([
                row.primitive.to_owned(),
                row.starts.to_owned(),
                row.count.to_string(),
                format!("{:.2}", row.p50_ms),
                format!("{:.2}", row.p95_ms),
                format!("{:.2}", row.p99_ms),
                format!("{:.2}", row.max_ms),
                format!("{:.1} %", row.timed_out_share * 100.0),
                format!("{:.1} %", row.truncated_share * 100.0),
                format!("{:.0}", row.ask_p99_ms),
                if row.holds { "holds" } else { "does not hold" }.to_owned(),
            ]);
        }
        let mut text = format!(
            "{} edges, the greatest hub has {}\n\n{}",
            self.edges,
            self.hub_edges_max,
            table.trim_fmt()
        );
        if let Some(slowest) = &self.slowest {
            let nodes: Vec<String> = slowest.nodes.iter().map(ToString::to_string).collect();
            text.push_str(&format!("\n\nslowest: {} {}\n", slowest.primitive, nodes.join(" ")));
            text.push_str(&slowest.plan.join("\n"));
        }
        text
    }
}
