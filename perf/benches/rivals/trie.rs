//! A trie of levels with interned names: the usual topic index.
//!
//! Flattering on purpose: no removal, one number per filter instead of a list of subscribers, all children in one table.

use dunlin_shard::topics::HashKey;
use hashbrown::HashTable;

/// Filters by level. Matching visits, level by level, the node of the name and the node of `+`.
#[derive(Debug)]
pub(crate) struct Trie {
    key: HashKey,
    names: HashTable<(u64, u32)>,
    texts: Vec<Box<str>>,
    children: HashTable<Child>,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Child {
    parent: u32,
    name: u32,
    node: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    plus: u32,
    here: u32,
    multi: u32,
}

impl Trie {
    pub(crate) fn new(seed: u64) -> Self {
        let root = Node { plus: NONE, here: NONE, multi: NONE };
        let (names, children) = (HashTable::new(), HashTable::new());
        Self { key: HashKey::new(seed), names, texts: Vec::new(), children, nodes: vec![root] }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, subscriber: u32) {
        let mut at = 0;
        for level in filter.split('/') {
            at = match level {
                "#" => {
                    self.nodes[at as usize].multi = subscriber;
                    return;
                }
                "+" if self.nodes[at as usize].plus != NONE => self.nodes[at as usize].plus,
                "+" => {
                    let node = self.add_node();
                    self.nodes[at as usize].plus = node;
                    node
                }
                name => {
                    let name = self.intern(name);
                    match self.child(at, name) {
                        Some(node) => node,
                        None => self.add_child(at, name),
                    }
                }
            };
        }
        self.nodes[at as usize].here = subscriber;
    }

    pub(crate) fn for_each_match(&self, topic: &str, mut each: impl FnMut(u32)) {
        let names: Vec<u32> = topic.split('/').map(|level| self.name(level).unwrap_or(NONE)).collect();
        let is_reserved = topic.starts_with('$');
        let mut open = vec![(0_u32, 0_usize)];
        while let Some((at, depth)) = open.pop() {
            let node = self.nodes[at as usize];
            let wildcards = !(is_reserved && depth == 0);
            if node.multi != NONE && wildcards {
                each(node.multi);
            }
            let Some(&name) = names.get(depth) else {
                if node.here != NONE {
                    each(node.here);
                }
                continue;
            };
            if node.plus != NONE && wildcards {
                open.push((node.plus, depth + 1));
            }
            if let Some(child) = self.child(at, name) {
                open.push((child, depth + 1));
            }
        }
    }

    fn name(&self, level: &str) -> Option<u32> {
        let hash = self.key.hash(level.as_bytes());
        self.names
            .find(hash, |(other, name)| *other == hash && *self.texts[*name as usize] == *level)
            .map(|(_, name)| *name)
    }

    fn intern(&mut self, level: &str) -> u32 {
        if let Some(name) = self.name(level) {
            return name;
        }
        let name = u32::try_from(self.texts.len()).expect("fewer levels than 2^32");
        self.texts.push(level.into());
        let hash = self.key.hash(level.as_bytes());
        self.names.insert_unique(hash, (hash, name), |(hash, _)| *hash);
        name
    }

    fn child(&self, parent: u32, name: u32) -> Option<u32> {
        let hash = self.key.mix(u64::from(parent) << 32 | u64::from(name));
        self.children.find(hash, |child| child.parent == parent && child.name == name).map(|child| child.node)
    }

    fn add_child(&mut self, parent: u32, name: u32) -> u32 {
        let node = self.add_node();
        let key = self.key;
        let hash_of = move |child: &Child| key.mix(u64::from(child.parent) << 32 | u64::from(child.name));
        let child = Child { parent, name, node };
        self.children.insert_unique(hash_of(&child), child, hash_of);
        node
    }

    fn add_node(&mut self) -> u32 {
        self.nodes.push(Node { plus: NONE, here: NONE, multi: NONE });
        u32::try_from(self.nodes.len() - 1).expect("fewer nodes than 2^32")
    }
}

const NONE: u32 = u32::MAX;
