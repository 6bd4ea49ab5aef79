# tests/e2e/failing_disk.sh with more places at which each call fails.
PLACES=8
. tests/e2e/failing_disk.sh
