//! `lea data import|stats|synth`.

use super::output;
use crate::Result;
use crate::data::{
    ByUser, Format, LoadOptions, Loaded, Stats, SynthConfig, UnknownItems, load, open, save_locked,
    synthesise,
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Where the data is and how to read it; flags that are given stand over a configuration's `[data]`.
#[derive(Debug, Clone, Default, Args)]
pub struct DataArgs {
    /// A data folder in one of the formats that `lea data import --help` lists, or a log by itself
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How to read it
    #[command(flatten)]
    pub read: ReadArgs,
}

/// How to read a data set.
#[derive(Debug, Clone, Default, Args)]
pub struct ReadArgs {
    /// Items' file, if it does not lie beside the log under a name that the format knows
    #[arg(long, value_name = "FILE")]
    pub items: Option<PathBuf>,
    /// Format: tsv, csv, atomic, hetrec or amazon [default: as the names of the files say]
    #[arg(long)]
    pub format: Option<Format>,
    /// Column of users [default: user_id or session_id, or as the format has it]
    #[arg(long, value_name = "NAME")]
    pub user_column: Option<String>,
    /// Column of items [default: item_id, or as the format has it]
    #[arg(long, value_name = "NAME")]
    pub item_column: Option<String>,
    /// Column of times [default: timestamp or time]
    #[arg(long, value_name = "NAME")]
    pub time_column: Option<String>,
    /// Item columns that form the text, separated by commas [default: those called title, name, text]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub text: Option<Vec<String>>,
    /// What stands between two text columns [default: ", "]
    #[arg(long, value_name = "TEXT")]
    pub joiner: Option<String>,
    /// Drop and count rows that cannot be used, instead of stopping at the first
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Events whose item the items' file does not know: refuse, drop, or keep the item without a text
    /// [default: refuse for tsv and csv, else keep]
    #[arg(long, value_name = "WHAT")]
    pub unknown_items: Option<UnknownItems>,
    /// Drop a row that agrees with an earlier one in user, item, kind, position and time
    #[arg(long)]
    pub drop_duplicates: bool,
    /// Drop an event that repeats the item of the event before it
    #[arg(long)]
    pub drop_repeats: bool,
    /// Drop users with fewer events
    #[arg(long, value_name = "N")]
    pub min_length: Option<usize>,
    /// Drop users and items with fewer events, until none is left
    #[arg(long = "k-core", visible_alias = "core", value_name = "K")]
    pub core: Option<usize>,
}

impl ReadArgs {
    /// `options` with the flags that are given put over them.
    pub fn over(&self, options: LoadOptions) -> LoadOptions {
        let text =
            self.text.as_ref().map(|columns| columns.iter().filter(|c| !c.is_empty()).cloned().collect());
        LoadOptions {
            text: text.or(options.text),
            joiner: self.joiner.clone().or(options.joiner),
            items: self.items.clone().or(options.items),
            format: self.format.or(options.format),
            user_column: self.user_column.clone().or(options.user_column),
            item_column: self.item_column.clone().or(options.item_column),
            time_column: self.time_column.clone().or(options.time_column),
            skip_bad_rows: self.skip_bad_rows || options.skip_bad_rows,
            drop_duplicates: self.drop_duplicates || options.drop_duplicates,
            unknown_items: self.unknown_items.or(options.unknown_items),
            drop_repeats: self.drop_repeats || options.drop_repeats,
            min_length: self.min_length.unwrap_or(options.min_length),
            core: self.core.unwrap_or(options.core),
        }
    }
}

impl DataArgs {
    /// Reads the data set, telling on standard error what was dropped.
    pub fn load(&self, options: LoadOptions) -> Result<Loaded> {
        let loaded = load(&self.data, &self.read.over(options))?;
        for line in loaded.dropped_lines() {
            eprintln!("{}: {line}", loaded.dataset.name);
        }
        Ok(loaded)
    }

    /// As [`DataArgs::load`], but the users stay on disk where they can.
    pub fn open(&self, options: LoadOptions) -> Result<ByUser> {
        let opened = open(&self.data, &self.read.over(options))?;
        for line in opened.dropped_lines() {
            eprintln!("{}: {line}", opened.items().name);
        }
        Ok(opened)
    }
}

/// What `lea data import --help` says about files.
const FORMATS: &str = "\
Formats, by the names of the files in the folder (each may end in .gz):
  tsv      interactions.tsv or events.tsv, and items.tsv
  csv      interactions.csv or events.csv, and items.csv
  atomic   *.inter and *.item of RecBole, with typed headers
  hetrec   user_tagged*.dat, user_ratedmovies*.dat or user_artists.dat of HetRec 2011,
           and artists.dat, movies.dat or bookmarks.dat
  amazon   *.json or *.jsonl with reviews, and meta_*.json or meta_*.jsonl

Events of a user are ordered by position, then time; ties keep the order of the file.
Every row that cannot be used is an error with file and line, or counted with --skip-bad-rows.
What was dropped and why is printed and recorded in dataset.json.

Examples:
  lea data import --data ml-1m/ --out data/ml --text movie_title --k-core 5
  lea data import --data amazon/ --out data/tools --k-core 5 --drop-duplicates --text title,brand
  lea data import --data events.csv --user-column visitorid --item-column itemid --out data/shop";

/// `lea data`.
#[derive(Debug, Args)]
pub struct DataCommand {
    /// What to do with the data.
    #[command(subcommand)]
    pub action: DataAction,
}

/// The subcommands of `lea data`.
#[derive(Debug, Subcommand)]
pub enum DataAction {
    /// Read a data set, filter it, and write it as plain tables with counts and hashes
    #[command(after_long_help = FORMATS)]
    Import {
        /// The data set
        #[command(flatten)]
        data: DataArgs,
        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Replace an earlier import in that folder
        #[arg(long)]
        overwrite: bool,
    },
    /// Print users, items, interactions, lengths and text coverage
    Stats {
        /// The data set
        #[command(flatten)]
        data: DataArgs,
        /// Print one line of JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Make a synthetic catalogue whose users go by what the items' texts say
    Synth {
        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Number of items
        #[arg(long, default_value_t = SynthConfig::default().items)]
        items: usize,
        /// Number of users
        #[arg(long, default_value_t = SynthConfig::default().users)]
        users: usize,
        /// Mean events a user
        #[arg(long, default_value_t = SynthConfig::default().mean_length)]
        mean_length: f64,
        /// Seed of everything drawn
        #[arg(long, default_value_t = SynthConfig::default().seed)]
        seed: u64,
        /// Replace an earlier data set in that folder
        #[arg(long)]
        overwrite: bool,
    },
}

/// Runs `lea data`.
pub fn run(args: DataCommand) -> Result<()> {
    match args.action {
        DataAction::Import { data, out, overwrite } => {
            let loaded = data.load(LoadOptions::default())?;
            save_locked(&loaded, &out, overwrite)?;
            loaded.read.notes().iter().try_for_each(output::line)?;
            print_stats(&Stats::of(&loaded.dataset))?;
            output::line(format_args!("written to {}", out.display()))
        }
        DataAction::Stats { data, json } => {
            let stats = Stats::of(&data.load(LoadOptions::default())?.dataset);
            if json { output::line(serde_json::json!(stats)) } else { print_stats(&stats) }
        }
        DataAction::Synth { out, items, users, mean_length, seed, overwrite } => {
            let loaded = synthesise(&SynthConfig { items, users, mean_length, seed })?;
            save_locked(&loaded, &out, overwrite)?;
            print_stats(&Stats::of(&loaded.dataset))?;
            output::line(format_args!("written to {}", out.display()))
        }
    }
}

fn print_stats(stats: &Stats) -> Result<()> {
    let text = if stats.text.is_empty() { "none".to_string() } else { stats.text.join(" + ") };
    let rows = [
        ("data set", stats.name.clone()),
        ("users", stats.users.to_string()),
        ("items", format!("{} ({} met by a user)", stats.items, stats.items_met)),
        ("interactions", format!("{} ({} adjacent repeats)", stats.interactions, stats.adjacent_repeats)),
        ("length", format!("median {:.1}, mean {:.2}", stats.median_length, stats.mean_length)),
        ("", format!("min {}, max {}", stats.min_length, stats.max_length)),
        ("text", text),
        ("items with text", format!("{:.1} %", stats.text_coverage)),
        ("words a text", format!("{:.2}", stats.mean_words)),
    ];
    rows.iter().try_for_each(|(name, value)| output::line(format_args!("{name:<16} {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_flags_stand_over_the_configuration_and_others_keep_it() {
        let configured = LoadOptions {
            text: Some(vec!["title".into()]),
            drop_repeats: true,
            min_length: 3,
            ..Default::default()
        };
        assert_eq!(ReadArgs::default().over(configured.clone()), configured);
        let flags = ReadArgs { text: Some(vec![String::new()]), min_length: Some(5), ..Default::default() };
        let both = flags.over(configured);
        assert_eq!((both.text, both.min_length, both.drop_repeats), (Some(Vec::new()), 5, true));
    }
}
