"""The tests, by what they need and what they try.

core/       the pure core: no thread, no host
listening/  mailboxes, listeners and waits by themselves
whole/      an index on the simulated host, and the command line
orders/     the watcher against a toolstack, in every order of their steps
wire/       the real line and hypercalls, against a xenstored and a hypervisor made here
both/       what holds on the simulated and on a real host: contract/ of the ports, scenarios/
fleet/      many hosts: the contract of an engine, in memory and on real etcd servers; faults;
            the commands of the operations page
real/       build/ makes real Xen hosts, inside/ runs in dom0, outside/ boots and reports, and reads
            what real hosts publish to a real etcd
packages/   what is shipped, installed and run in unpacked Debians; bare machines
shape/      layers, public names, arguments, types, documents, examples
measure/    cost/ counts instructions, figures/ makes the table of docs/performance.md, mutants/
            says which faults no test notices
bench/      the index beside libxl, xl and libvirt, on any host; on_hosts/ boots real ones

A test is found by what it tests: of `core/table.py` in `core/test_table*.py`, of `index.find` in
`whole/test_queries.py`. What several folders share: `stage.py` (a host with a toolstack),
`histories.py` (random ones), `delivery_log.py` (what a listener received, held to all that is
promised), `believer.py` (what it knows by then), `programs.py` (the examples), `terminal.py` (the
command line in a terminal and in a pipe). `FAULTS.md` lists what was wrong and the test that shows
it.
"""
