//! Which users are in which label file, and which files are one shard's.

use super::config::LabelConfig;
use super::label_manifest::file_stem;
use crate::{Error, Result};
use std::ops::Range;
use std::str::FromStr;

/// One of several equal shares of a labelling, as in `3/16`: the third of sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number, from 1 to `of`.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').map(|(number, of)| (number.parse(), of.parse()));
        match numbers {
            Some((Ok(number), Ok(of))) if (1..=of).contains(&number) && of <= MOST_FILES => {
                Ok(Shard { number, of })
            }
            _ => Err(Error::setting(
                format!("{text:?} is no shard"),
                format!(
                    "write it as 3/16, the third of sixteen; the first is 1/16, and {MOST_FILES} are the most"
                ),
            )),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Their names have five digits.
const MOST_FILES: usize = 100_000;

/// Of the names of a label file, its record and its unfinished part.
const ENDINGS: [&str; 3] = [".safetensors", ".json", ".part"];

/// The files of a labelling, and those of them that one run writes. The users are cut evenly into the files, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPart {
    users: usize,
    files: usize,
    own: Range<usize>,
    shard: Option<Shard>,
}

impl LabelPart {
    /// The files of `users` users: `files` where that is given, else as many as hold the configured number of users
    /// each, but one a shard at least. A run has those of its `shard`, or all.
    ///
    /// # Errors
    /// No user, more files than users, or more shards than files.
    pub fn new(
        users: usize,
        config: &LabelConfig,
        files: Option<usize>,
        shard: Option<Shard>,
    ) -> Result<Self> {
        let shards = shard.map_or(1, |shard| shard.of);
        let total = files.unwrap_or_else(|| users.div_ceil(config.users_per_file.max(1)).max(shards));
        if !(1..=MOST_FILES.min(users)).contains(&total) {
            let problem = format!("{total} label files for {users} users");
            let remedy = format!("ask for at least 1, at most one a user and at most {MOST_FILES}");
            return Err(Error::setting(problem, remedy));
        }
        if shards > total {
            let problem = format!("{shards} shards of {total} label files");
            return Err(Error::setting(problem, "ask for at least as many files as shards"));
        }
        let own = shard.map_or(0..total, |s| (s.number - 1) * total / s.of..s.number * total / s.of);
        Ok(LabelPart { users, files: total, own, shard })
    }

    /// Files of the whole labelling.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Numbers of the files that this run writes.
    pub fn own(&self) -> Range<usize> {
        self.own.clone()
    }

    /// The shard; `None` where this run writes all files.
    pub fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// Names of file `file`, its record and its unfinished part.
    pub fn file_names(&self, file: usize) -> [String; 3] {
        ENDINGS.map(|ending| format!("{}{ending}", file_stem(file, self.files)))
    }

    /// What such names match, whatever the file and the number of files; a `?` stands for a digit.
    pub fn any_file_names() -> [String; 3] {
        ENDINGS.map(|ending| format!("labels-?????-of-?????{ending}"))
    }

    /// Users of file `file`; none of a file is without users.
    pub fn users_of(&self, file: usize) -> Range<u32> {
        let end = |file: usize| (self.users as u64 * file as u64 / self.files as u64) as u32;
        end(file)..end(file + 1)
    }

    /// Users of all files that this run writes.
    pub fn users(&self) -> Range<u32> {
        self.users_of(self.own.start).start..self.users_of(self.own.end - 1).end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(users: usize, files: Option<usize>, shard: Option<&str>) -> Result<LabelPart> {
        let config = LabelConfig { users_per_file: 10, ..LabelConfig::default() };
        LabelPart::new(users, &config, files, shard.map(|text| text.parse().unwrap()))
    }

    #[test]
    fn files_hold_every_user_once_and_shards_every_file_once() {
        for (users, files) in [(1, None), (10, None), (11, None), (95, None), (95, Some(7)), (6, Some(6))] {
            let whole = part(users, files, None).unwrap();
            let held: Vec<u32> = whole.own().flat_map(|file| whole.users_of(file)).collect();
            assert_eq!(held, (0..users as u32).collect::<Vec<_>>());
            assert!(whole.own().all(|file| !whole.users_of(file).is_empty()));
            for shards in 1..=whole.files() {
                let parts = (1..=shards).map(|n| part(users, files, Some(&format!("{n}/{shards}"))).unwrap());
                let parts: Vec<LabelPart> = parts.collect();
                assert!(parts.iter().all(|p| p.files() == whole.files() && !p.own().is_empty()));
                let own: Vec<usize> = parts.iter().flat_map(LabelPart::own).collect();
                assert_eq!(own, whole.own().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_shard_has_a_file_of_its_own_where_nothing_says_how_many_there_are() {
        let third = part(50, None, Some("3/16")).unwrap();
        assert_eq!((third.files(), third.own()), (16, 2..3));
        assert_eq!(part(50, None, Some("2/3")).unwrap().files(), 5);
        for (users, files, shard) in
            [(0, None, None), (3, Some(4), None), (3, Some(0), None), (9, None, Some("1/10"))]
        {
            assert!(part(users, files, shard).unwrap_err().to_string().contains("label files for"));
        }
        let error = part(50, Some(4), Some("1/5")).unwrap_err().to_string();
        assert!(error.contains("5 shards of 4 label files"), "{error}");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1/18446744073709551615"] {
            assert!(text.parse::<Shard>().unwrap_err().to_string().contains("is no shard"), "{text}");
        }
        assert_eq!("4/4".parse::<Shard>().unwrap().to_string(), "4/4");
    }
}
