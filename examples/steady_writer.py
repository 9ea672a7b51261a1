"""An application in another language that writes SQLite while it is being migrated.

It knows nothing of the migration: it uses the sqlite3 module that comes with Python. Changes are
captured by triggers in the file. At the cutover its next change fails with "toolkit fence: ...";
it then stops with exit code 3, and its operator starts the version that writes to PostgreSQL (or,
after a rollback, this one again).

    python3 steady_writer.py --file /data/shop.sqlite --journal /data/journal --rate 500

The journal is that of steady_writer.rs: "? change id version" before a change is made,
"! change id version" after it is committed.
"""

import argparse
import os
import random
import signal
import sqlite3
import sys
import time

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL,
  cents INTEGER NOT NULL, version INTEGER NOT NULL, placed_at TEXT NOT NULL, note TEXT);
CREATE TABLE IF NOT EXISTS lines (order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
  line INTEGER NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL,
  PRIMARY KEY (order_id, line)) WITHOUT ROWID;
"""

FENCED = 3


def make(file, change, order, version):
    """One change in one transaction; doing it twice is doing it once."""
    with file:
        if change == "i":
            file.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), NULL)"
                " ON CONFLICT (id) DO UPDATE SET version = excluded.version",
                (order, f"customer {order % 97}", version * 100, version),
            )
            file.executemany(
                "INSERT INTO lines VALUES (?, ?, ?, ?) ON CONFLICT (order_id, line) DO NOTHING",
                [(order, 1, "tea", 2), (order, 2, "pot", 1)],
            )
        elif change == "u":
            file.execute(
                "UPDATE orders SET version = ?, cents = ?, note = 'repriced' WHERE id = ?",
                (version, version * 100, order),
            )
        else:
            file.execute("DELETE FROM orders WHERE id = ?", (order,))


def highest(journal):
    """The highest order that was ever announced: deleted ones do not come back."""
    try:
        with open(journal, encoding="utf-8") as lines:
            announced = [line.split() for line in lines if line.startswith("? ")]
    except FileNotFoundError:
        return 0
    return max((int(words[2]) for words in announced if len(words) == 4), default=0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--file", required=True)
    arguments.add_argument("--journal", required=True)
    arguments.add_argument("--rate", type=float, default=500)
    arguments.add_argument("--seconds", type=float)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()

    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    file = sqlite3.connect(options.file, timeout=10)
    file.executescript(TABLES)
    file.execute("PRAGMA foreign_keys = ON")
    file.execute("PRAGMA synchronous = NORMAL")
    orders = dict(file.execute("SELECT id, version FROM orders"))
    newest = max([highest(options.journal), *orders])
    journal = os.open(options.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    dice = random.Random(options.seed)
    begun = due = time.monotonic()
    while not stopped and (options.seconds is None or time.monotonic() - begun < options.seconds):
        due += 1 / options.rate
        time.sleep(max(0.0, due - time.monotonic()))
        chance = dice.random()
        if not orders or (chance < 0.4 and len(orders) < 800):
            newest += 1
            change, order, version = "i", newest, 1
        else:
            order = dice.choice(list(orders))
            change = "u" if chance < 0.7 or len(orders) < 200 else "d"
            version = orders[order] + 1
        what = f"{change} {order} {version}\n".encode()
        os.write(journal, b"? " + what)
        while True:
            try:
                make(file, change, order, version)
                break
            except sqlite3.Error as error:
                if "toolkit fence:" in str(error):
                    print(f"stopped: {error}", file=sys.stderr)
                    return FENCED
                if "locked" not in str(error):
                    raise
        os.write(journal, b"! " + what)
        if change == "d":
            del orders[order]
        else:
            orders[order] = version
    return 0


if __name__ == "__main__":
    sys.exit(main())
