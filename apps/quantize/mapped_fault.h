// A mapped file whose bytes can't be had any more: the disk failed, or somebody cut the file while it was
// read. The system says so by SIGBUS where they are looked at, which no caller can guard against.
#pragma once

namespace lathe {

/// From then on such a fault ends the program with one line that names the file, and exit code 2. What a
/// finished block came to is in the journal; the unfinished folder goes away with the next run. Any other
/// SIGBUS ends it as before.
void install_mapped_fault_handler();

}  // namespace lathe
