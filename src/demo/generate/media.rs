//! The files of a media tracker: items by type, and what users track, relate, link and list.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::dice::Dice;
use super::prose;
use crate::{Error, ErrorKind, Result};

/// Name in the file, type, and a length as its items have it.
const TYPES: [(&str, &str, &str); 8] = [
    ("Anime", "anime", "{} minutes per episode"),
    ("Book", "book", "{} pages"),
    ("Movie", "movie", "{} minutes"),
    ("Game", "game", "{} Hours (Main Story)"),
    ("Audiobook", "audiobook", "{} hours 12 minutes"),
    ("Light Novel", "light_novel", "{} pages"),
    ("Manga", "manga", "{} Volumes (Ongoing)"),
    ("Live Event", "live_event", "{} Hours"),
];
const GENRES: [&str; 6] = ["Drama", "Comedy", "Isekai", "Sci-Fi", "Romance", "Slice of Life"];
const COUNTRIES: [&str; 4] = ["Japan", "South Korea", "USA", "France"];
const STATES: [&str; 4] = ["planned", "in-progress", "completed", "dropped"];

/// How much to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaShape {
    /// Items of all types.
    pub items: usize,
    /// Users.
    pub users: usize,
    /// Rows of `user_media.csv`, spread evenly over the users; at most `items` each.
    pub tracked: usize,
}

/// Writes the files into `folder` (created if need be): every reference holds, nothing has to be
/// rejected. Returns the records written.
pub fn media(folder: &Path, seed: u64, shape: MediaShape) -> Result<usize> {
    if folder.join("user_media.csv").exists() {
        let detail = format!("{} already holds user_media.csv", folder.display());
        return Err(Error::new(ErrorKind::Usage, detail).advice("name an empty folder"));
    }
    let mut tracker = Tracker { folder, dice: Dice::new(seed, 1), shape, records: 0 };
    tracker.write().map_err(|error| Error::from(error).context(folder.display()))?;
    Ok(tracker.records)
}

struct Tracker<'f> {
    folder: &'f Path,
    dice: Dice,
    shape: MediaShape,
    records: usize,
}

fn external_id(item: usize) -> String {
    let (_, media_type, _) = TYPES[item % TYPES.len()];
    format!("{media_type}:title-{item}:{}", 1960 + item % 65)
}

fn email(user: usize) -> String {
    format!("user{user}@example.org")
}

impl Tracker<'_> {
    fn write(&mut self) -> std::io::Result<()> {
        std::fs::create_dir_all(self.folder)?;
        for at in 0..TYPES.len() {
            self.items(at)?;
        }
        self.tracked()?;
        self.relationships()?;
        self.links()?;
        self.lists()
    }

    fn create(&self, name: &str) -> std::io::Result<BufWriter<File>> {
        Ok(BufWriter::with_capacity(1 << 20, File::create(self.folder.join(name))?))
    }

    fn items(&mut self, at: usize) -> std::io::Result<()> {
        let (name, media_type, length) = TYPES[at];
        let mut file = self.create(&format!("{media_type}.json"))?;
        write!(file, "{{\"{name}\" : [")?;
        let mut separator = "";
        for item in (at..self.shape.items).step_by(TYPES.len()) {
            let year = 1960 + item % 65;
            let record = json!({
                "external_id": external_id(item),
                "media_type": media_type,
                "media_class": format!("media.{media_type}"),
                "title": format!("Title {item}: {}", prose::title(&mut self.dice, item)),
                "release_date": format!("{year}-01-01"),
                "country_of_origin": self.dice.pick(&COUNTRIES),
                "creators": [prose::author(&mut self.dice), format!("Studio {}", item % 97)],
                "cover_url": null,
                "description": prose::sentence(&mut self.dice),
                "attributes": {
                    "tags": ["Generated", self.dice.pick(&GENRES)],
                    "genre": format!("{}, {}", self.dice.pick(&GENRES), GENRES[item % GENRES.len()]),
                    "platform": "PC, iOS",
                    "media_length": length.replace("{}", &self.dice.between(2, 400).to_string()),
                    "reviewer_rating": 3.5 + (item % 15) as f64 / 10.0,
                },
            });
            write!(file, "{separator}{record}")?;
            separator = ", \n ";
            self.records += 1;
        }
        writeln!(file, "]}}")?;
        file.flush()
    }

    /// Sorted by user, as the application exports it.
    fn tracked(&mut self) -> std::io::Result<()> {
        let mut file = self.create("user_media.csv")?;
        writeln!(
            file,
            "user_email,media_external_id,status,progress,rating,notes,started_at,completed_at"
        )?;
        let MediaShape { items, users, tracked } = self.shape;
        let (users, items) = (users.max(1), items.max(1));
        for user in 0..users {
            let mine = tracked / users + usize::from(user < tracked % users);
            let (email, first) = (email(user), self.dice.index(items));
            for number in 0..mine.min(items) {
                let media = external_id((first + number) % items);
                let status = STATES[self.dice.index(STATES.len())];
                let progress = self.dice.below(500);
                write!(file, "{email},{media},{status},{progress},")?;
                if status == "completed" {
                    let (rating, day) = (1 + self.dice.below(10), 1 + self.dice.below(28));
                    writeln!(
                        file,
                        "{rating},\"good, \"\"really\"\"\",2025-01-{day:02}T08:00:00+00:00,\
                         2025-02-{day:02}T20:30:00+00:00"
                    )?;
                } else {
                    writeln!(file, ",,,")?;
                }
                self.records += 1;
            }
        }
        file.flush()
    }

    fn relationships(&mut self) -> std::io::Result<()> {
        let mut file = self.create("relationships.json")?;
        write!(file, "{{\"relationships\": [")?;
        let kinds = ["sequel", "adaptation", "spinoff", "same_universe", "remake", "crossover"];
        for item in 1..self.shape.items / 4 {
            let separator = if item == 1 { "" } else { ",\n " };
            let record = json!({
                "from_external_id": external_id(item),
                "to_external_id": external_id(item - 1),
                "type": kinds[item % kinds.len()],
                "notes": if item % 3 == 0 { json!("by the same author") } else { json!(null) },
                "weight": self.dice.below(100),
            });
            write!(file, "{separator}{record}")?;
            self.records += 1;
        }
        writeln!(file, "]}}")?;
        file.flush()
    }

    fn links(&mut self) -> std::io::Result<()> {
        let mut file = self.create("external_links.csv")?;
        writeln!(file, "external_id,source_name,external_key")?;
        for item in (0..self.shape.items).step_by(3) {
            writeln!(file, "{},anilist,{item}", external_id(item))?;
            self.records += 1;
        }
        file.flush()
    }

    fn lists(&mut self) -> std::io::Result<()> {
        let mut file = self.create("lists.json")?;
        write!(file, "[")?;
        let (users, items) = (self.shape.users.max(1), self.shape.items.max(1));
        for list in 0..users.min(2_000) {
            let separator = if list == 0 { "" } else { ",\n " };
            let record = if list % 2 == 0 {
                let first = self.dice.index(items);
                let held: Vec<String> =
                    (0..5.min(items)).map(|at| external_id((first + at) % items)).collect();
                json!({"user_email": email(list), "name": "Favourites", "type": "static",
                       "items": held})
            } else {
                json!({"user_email": email(list), "name": "Good drama", "type": "smart",
                       "filter_definition": {"all": [
                           {"field": "attributes.genres", "op": "contains", "value": "Drama"},
                           {"any": [{"field": "rating", "op": "ge", "value": 8},
                                    {"field": "release_date", "op": "ge", "value": "2010-01-01"}]}]}})
            };
            write!(file, "{separator}{record}")?;
            self.records += 1;
        }
        writeln!(file, "]")?;
        file.flush()
    }
}
