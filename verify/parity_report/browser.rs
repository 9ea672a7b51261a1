//! The page in a real browser, where the machine has one.

use std::path::Path;
use std::process::{Command, Output};

use super::{report, tampered};
use crate::support::{stderr, stdout};

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Loads the page in a frame as wide as a phone, lets it settle, and writes down what it became.
const FRAME: &str = r##"<!DOCTYPE html><body><pre id="found"></pre><iframe id="frame"
 style="border:0;width:390px;height:800px" srcdoc="PAGE"></iframe><script>
document.getElementById("frame").addEventListener("load", (event) => {
  const inside = event.target.contentDocument;
  const form = inside.querySelector("form.filter");
  const input = form.querySelector("input");
  input.value = "grüsse";
  input.dispatchEvent(new Event("input"));
  const shown = [...inside.querySelectorAll("#differences .row")].filter((row) => !row.hidden);
  document.getElementById("found").textContent = [
    `inner=${event.target.contentWindow.innerWidth}`,
    `overflow=${inside.documentElement.scrollWidth - inside.documentElement.clientWidth}`,
    `rows=${inside.querySelectorAll("#differences .row").length}`,
    `filtered=${shown.length}`,
    `filter=${!form.hidden}`,
    `pwned=${window.pwned}`,
    `heading=${inside.querySelector("h1").getBoundingClientRect().top < 200}`,
  ].join(" ");
});
</script></body>"##;

fn load(browser: &str, file: &Path, profile: &Path) -> std::io::Result<Output> {
    Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", file.display()))
        .output()
}

#[tokio::test]
async fn the_page_fits_a_phone_and_runs_without_an_error_in_the_console() {
    let profile = tempfile::tempdir().unwrap();
    let world = tampered().await;
    let html = report(&world, 1, "out.html", &[]);
    let escaped = html.replace('&', "&amp;").replace('"', "&quot;");
    let file = world.database.folder().join("frame.html");
    std::fs::write(&file, FRAME.replace("PAGE", &escaped)).unwrap();
    let tried = BROWSERS.iter().find_map(|browser| load(browser, &file, profile.path()).ok());
    let Some(loaded) = tried else {
        println!("SKIPPED: none of {BROWSERS:?} is installed");
        return;
    };
    let (dom, log) = (stdout(&loaded), stderr(&loaded));
    let found = dom.split_once("<pre id=\"found\">").map_or("", |(_, after)| after);
    let found = found.split_once("</pre>").map_or("", |(found, _)| found);
    assert_eq!(
        found, "inner=390 overflow=0 rows=10 filtered=1 filter=true pwned=undefined heading=true",
        "{log}"
    );
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:#?}");
}
