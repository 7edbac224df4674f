//! `.waagignore`: which files of a directory are not published.
//!
//! The rules are those of `.gitignore` that people use: one pattern a line; `#` comments; `!` takes back what
//! an earlier line left out; a `/` at the end means directories only; a `/` elsewhere ties the pattern to the
//! root; `*` and `?` stop at `/`, `**` does not; `[a-z]` and `[!a-z]` are sets. The last pattern that matches
//! decides. What lies in a directory that is left out is left out. Only the file in the root is read.

/// The patterns of one file, in order.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Takes back what earlier patterns left out.
    negated: bool,
    directories_only: bool,
    /// Split at `/`; `**` stands for any number of parts.
    parts: Vec<String>,
}

impl Ignore {
    /// Reads the text of a `.waagignore`. Every text is one; a pattern that cannot match matches nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self {
            patterns: text.lines().filter_map(Pattern::parse).collect(),
        }
    }

    /// Says whether this path, relative to the root, is left out. Its directories have been asked before.
    #[must_use]
    pub fn leaves_out(&self, path: &str, is_dir: bool) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        self.patterns
            .iter()
            .rev()
            .find(|pattern| (is_dir || !pattern.directories_only) && pattern.matches(&parts))
            .is_some_and(|pattern| !pattern.negated)
    }
}

impl Pattern {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (negated, line) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            // A pattern may begin with one of the two signs when it is escaped.
            None => (
                false,
                line.strip_prefix('\\')
                    .filter(|r| r.starts_with(['!', '#']))
                    .unwrap_or(line),
            ),
        };
        let directories_only = line.ends_with('/');
        let line = line.trim_end_matches('/');
        let tied = line.contains('/');
        let mut parts: Vec<String> = line
            .trim_start_matches('/')
            .split('/')
            .map(ToOwned::to_owned)
            .collect();
        if !tied {
            parts.insert(0, "**".to_owned());
        }
        (!line.is_empty()).then_some(Self {
            negated,
            directories_only,
            parts,
        })
    }

    /// Row by row through the pattern: which beginnings of the path it matches so far. So the work is the
    /// product of the two lengths, whatever the pattern.
    fn matches(&self, path: &[&str]) -> bool {
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            let mut next = vec![false; path.len() + 1];
            if part == "**" {
                let mut any = false;
                for (to, from) in next.iter_mut().zip(&reached) {
                    any |= from;
                    *to = any;
                }
            } else {
                for (i, name) in path.iter().enumerate() {
                    next[i + 1] = reached[i] && matches_name(part, name);
                }
            }
            reached = next;
        }
        // `dir/**` is what lies below `dir`, not `dir` itself.
        let below = self.parts.last().is_some_and(|part| part == "**");
        reached[path.len()] && !(below && self.parts.len() > 1 && self.without_last(path))
    }

    fn without_last(&self, path: &[&str]) -> bool {
        let shorter = Self {
            parts: self.parts[..self.parts.len() - 1].to_vec(),
            ..self.clone()
        };
        shorter.matches(path)
    }
}

/// Matches one name with `*`, `?` and sets.
fn matches_name(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match one(&pattern[p..], name[n]) {
            Some(0) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(used) => {
                p += used;
                n += 1;
                continue;
            }
            None => {}
        }
        let Some((at, taken)) = star else { return false };
        star = Some((at, taken + 1));
        p = at + 1;
        n = taken + 1;
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Returns how many characters of the pattern match this one; 0 for a star, none for no match.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '*' => Some(0),
        '?' => Some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => {
            let Some(length) = pattern.iter().skip(2).position(|x| *x == ']').map(|i| i + 2) else {
                return (c == '[').then_some(1);
            };
            let inside = &pattern[1..length];
            let (negated, inside) = match inside {
                ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
                _ => (false, inside),
            };
            (in_set(inside, c) != negated).then_some(length + 1)
        }
        x => (x == c).then_some(1),
    }
}

fn in_set(mut set: &[char], c: char) -> bool {
    loop {
        match set {
            [] => return false,
            [low, '-', high, rest @ ..] => {
                if (*low..=*high).contains(&c) {
                    return true;
                }
                set = rest;
            }
            [x, rest @ ..] => {
                if *x == c {
                    return true;
                }
                set = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, left_out: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(pattern);
        for path in left_out {
            assert!(
                ignore.leaves_out(path, path.ends_with('/')) || ignore.leaves_out(path, false),
                "{path}"
            );
        }
        for path in kept {
            assert!(!ignore.leaves_out(path, false), "{path}");
        }
    }

    #[test]
    fn patterns_mean_what_gitignore_means() {
        check("*.log", &["a.log", "b/c.log"], &["a.logs", "log"]);
        check("/top.txt", &["top.txt"], &["a/top.txt"]);
        check("a/*.bin", &["a/x.bin"], &["x.bin", "a/b/x.bin", "b/a/x.bin"]);
        check("**/x", &["x", "a/x", "a/b/x"], &["xx"]);
        check("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["z", "b/z"]);
        check("a/**", &["a/x", "a/b/c"], &["a"]);
        check("?.[ab]", &["x.a", "y.b"], &["xx.a", "x.c"]);
        check("[!a-c]1", &["d1"], &["a1", "b1"]);
        check("[x", &["[x"], &["x"]);
        check("# no\n\n\\#yes", &["#yes"], &["# no"]);
    }

    #[test]
    fn the_last_matching_pattern_decides() {
        let ignore = Ignore::parse("*.bin\n!keep.bin\n");
        assert!(ignore.leaves_out("a.bin", false));
        assert!(!ignore.leaves_out("keep.bin", false));
    }

    #[test]
    fn a_slash_at_the_end_means_directories() {
        let ignore = Ignore::parse("runs/");
        assert!(ignore.leaves_out("runs", true));
        assert!(ignore.leaves_out("a/runs", true));
        assert!(!ignore.leaves_out("runs", false));
    }

    #[test]
    fn many_stars_take_no_time() {
        let ignore = Ignore::parse(&format!("{}b", "*a".repeat(200)));
        assert!(!ignore.leaves_out(&"a".repeat(200), false));
        let ignore = Ignore::parse(&format!("{}x", "**/".repeat(200)));
        assert!(!ignore.leaves_out(&"a/".repeat(200), false));
    }
}
