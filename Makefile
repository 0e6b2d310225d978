# The verbs of the project. Each installs what it lacks (scripts/setup.sh), builds, and does one thing.
#   make demo      three nodes share a context: join, write, offline, kill -9, removal; step by step
#   make test      every test, with sanitizers too
#   make sim       any number of simulated runs: SEEDS=2000 of them from SEED=1 on; N=share_chaos picks some
#   make campaign  the long counts: crashes, simulation, fuzzing
#   make soak      an hour of gossip with other implementations; S=600 is ten minutes
#   make bench     our figures beside their limits
#   make fuzz      fuzzing without end; T=name picks a target
#   make mutants   small wrong changes planted one at a time: do the tests notice; M=regex picks some
#   make fmt       layout; make install, make dist

BUILD ?= build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
S ?= 3600
SEEDS ?= 1000
SEED ?= 1

.PHONY: all demo test sim campaign soak bench fuzz mutants fmt install dist setup clean

all: setup
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

setup:
	@scripts/setup.sh

demo: all
	scripts/demo.sh $(BUILD)/release

test: setup
	scripts/test.sh

sim: all
	BUILD=$(BUILD) JOBS=$(JOBS) scripts/sim.sh $(SEEDS) $(SEED) $(N)

campaign: setup
	scripts/campaign.sh

soak: setup
	scripts/soak.sh $(S)

bench: all
	scripts/bench.sh $(BUILD)/release

fuzz: setup
	scripts/fuzz.sh 0 $(T)

mutants: setup
	scripts/mutants.py -j $(JOBS) $(M)

fmt: setup
	find include src cmd sdk apps examples tests bench -name '*.[ch]' | xargs clang-format-14 -i

install: all
	cmake --install $(BUILD)/release --prefix $(PREFIX)

dist: setup
	scripts/dist.sh

clean:
	rm -rf $(BUILD)
