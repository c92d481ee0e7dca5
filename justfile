# The usual commands. `just` lists them; each is a cargo alias or a script, so nothing here is needed.

# What there is.
default:
    @just --list

# Run the broker; flags after it, as in: just run --shards 2
run *FLAGS:
    cargo run --release -- {{FLAGS}}

# Whether this host can run it, and what to change.
check *FLAGS:
    cargo run --release -- check {{FLAGS}}

# Everything that CI runs, or the named steps.
test *STEPS:
    ./tests/all {{STEPS}}

# The simulator: 200 seeds, or this one.
sim SEED='':
    cargo sim {{ if SEED == '' { '' } else { '--seed ' + SEED } }}

# One micro benchmark: match, publish.
bench NAME='match':
    cargo bench -p dunlin-perf --bench {{NAME}}

# Dunlin, the floor and mosquitto side by side.
perf *FLAGS:
    cargo perf compare {{FLAGS}}

# The load generator.
load *FLAGS:
    cargo load {{FLAGS}}

# A scenario file or one of the library against a broker, as in: just scenario wills --scale 0.1 --target 127.0.0.1
scenario NAME *FLAGS:
    cargo load run {{NAME}} {{FLAGS}}

# The proof of two million connections; smaller with --connections 200000 --hold 15 --storm 10000.
million *FLAGS:
    cargo perf million {{FLAGS}}

# Formatting, lints and the checks of the tree.
tidy:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo tidy check
