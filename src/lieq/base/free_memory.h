// Memory that was freed and is still held.
#pragma once

namespace lieq {

/// Gives the system back what was freed. After many small blocks were freed between others that
/// stay, the allocator holds their pages.
void ReturnFreedMemory() noexcept;

}  // namespace lieq
