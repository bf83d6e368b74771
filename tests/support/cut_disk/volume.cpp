#include "tests/support/cut_disk/volume.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

namespace farside::test {
namespace {

constexpr std::uint64_t kPage = 4096;

bool is_folder(mode_t mode) {
  return S_ISDIR(mode);
}

}  // namespace

Volume::Volume() {
  inodes_[kRoot].mode = S_IFDIR | 0755;
}

bool Volume::may_change() {
  if (is_off_) return false;
  if (left_ > 0) {
    --left_;
    is_off_ = left_ == 0;
  }
  clock_ns_ += 1'000'000;
  return !is_off_;
}

// ---- names

Volume::Place Volume::place(std::string_view path) const {
  Place at{.folder = 0, .name = {}, .inode = kRoot};
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (name.empty()) continue;
    const auto folder = inodes_.find(at.inode);
    if (folder == inodes_.end() || !is_folder(folder->second.mode)) return {};
    const auto found = folder->second.names.find(std::string(name));
    at = {.folder = at.inode,
          .name = std::string(name),
          .inode = found == folder->second.names.end() ? 0 : found->second};
  }
  return at;
}

Volume::Number Volume::find(std::string_view path) const {
  return is_off_ ? 0 : place(path).inode;
}

void Volume::apply(const Change& change) {
  for (const Entry& entry : change) {
    const auto folder = inodes_.find(entry.folder);
    if (folder == inodes_.end()) continue;
    if (entry.inode == 0) {
      folder->second.durable_names.erase(entry.name);
    } else {
      folder->second.durable_names[entry.name] = entry.inode;
    }
  }
}

void Volume::change(Change change) {
  for (const Entry& entry : change) {
    Inode& folder = inodes_.at(entry.folder);
    folder.changed_ns = clock_ns_;
    if (entry.inode == 0) {
      folder.names.erase(entry.name);
    } else {
      folder.names[entry.name] = entry.inode;
    }
  }
  pending_.push_back(std::move(change));
}

int Volume::make(std::string_view path, mode_t mode, Number& made) {
  const Place at = place(path);
  if (is_off_) return -EIO;
  if (at.folder == 0) return -ENOENT;
  if (at.inode != 0) return -EEXIST;
  if (!may_change()) return -EIO;
  made = next_++;
  inodes_[made] = {.mode = mode, .changed_ns = clock_ns_};
  change({{.folder = at.folder, .name = at.name, .inode = made}});
  return 0;
}

int Volume::remove(std::string_view path, bool wants_folder) {
  const Place at = place(path);
  if (is_off_) return -EIO;
  if (at.inode == 0 || at.folder == 0) return -ENOENT;
  const Inode& inode = inodes_.at(at.inode);
  if (is_folder(inode.mode) != wants_folder) return wants_folder ? -ENOTDIR : -EISDIR;
  if (!inode.names.empty()) return -ENOTEMPTY;
  if (!may_change()) return -EIO;
  change({{.folder = at.folder, .name = at.name, .inode = 0}});
  return 0;
}

int Volume::rename(std::string_view from, std::string_view to) {
  const Place source = place(from);
  const Place target = place(to);
  if (is_off_) return -EIO;
  if (source.inode == 0 || source.folder == 0 || target.folder == 0) return -ENOENT;
  if (target.inode != 0 && !inodes_.at(target.inode).names.empty()) return -ENOTEMPTY;
  if (!may_change()) return -EIO;
  if (source.inode == target.inode) return 0;
  change({{.folder = source.folder, .name = source.name, .inode = 0},
          {.folder = target.folder, .name = target.name, .inode = source.inode}});
  return 0;
}

int Volume::link(std::string_view from, std::string_view to) {
  const Place source = place(from);
  const Place target = place(to);
  if (is_off_) return -EIO;
  if (source.inode == 0 || target.folder == 0) return -ENOENT;
  if (target.inode != 0) return -EEXIST;
  if (!may_change()) return -EIO;
  change({{.folder = target.folder, .name = target.name, .inode = source.inode}});
  return 0;
}

int Volume::list(Number folder, const std::function<void(const std::string&, Number)>& each) const {
  if (is_off_) return -EIO;
  const auto found = inodes_.find(folder);
  if (found == inodes_.end()) return -ENOENT;
  for (const auto& [name, number] : found->second.names) each(name, number);
  return 0;
}

int Volume::sync_folder(Number folder) {
  if (!may_change()) return -EIO;
  ++syncs_;
  if (lie_ == "names") return 0;
  // What is newer may build on what is older.
  std::set<Number> folders{folder};
  std::vector<bool> taken(pending_.size());
  for (std::size_t i = pending_.size(); i-- > 0;) {
    taken[i] = std::ranges::any_of(
        pending_[i], [&](const Entry& entry) { return folders.contains(entry.folder); });
    if (!taken[i]) continue;
    for (const Entry& entry : pending_[i]) folders.insert(entry.folder);
  }
  std::deque<Change> left;
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    if (taken[i]) {
      apply(pending_[i]);
    } else {
      left.push_back(std::move(pending_[i]));
    }
  }
  pending_ = std::move(left);
  return 0;
}

// ---- attributes

int Volume::attributes(Number number, struct stat& to) const {
  if (is_off_) return -EIO;
  const auto found = inodes_.find(number);
  if (found == inodes_.end()) return -ENOENT;
  const Inode& inode = found->second;
  to = {};
  to.st_ino = number;
  to.st_mode = inode.mode;
  to.st_nlink = 1;
  to.st_size = static_cast<off_t>(inode.now.bytes);
  to.st_blksize = kPage;
  to.st_blocks = static_cast<blkcnt_t>(inode.now.pages.size() * (kPage / 512));
  to.st_mtim = {.tv_sec = inode.changed_ns / 1'000'000'000,
                .tv_nsec = inode.changed_ns % 1'000'000'000};
  to.st_ctim = to.st_mtim;
  to.st_atim = to.st_mtim;
  return 0;
}

int Volume::set_mode(Number number, mode_t mode) {
  const auto found = inodes_.find(number);
  if (is_off_) return -EIO;
  if (found == inodes_.end()) return -ENOENT;
  constexpr mode_t kBits = 07777;
  found->second.mode = (found->second.mode & ~kBits) | (mode & kBits);
  return 0;
}

// ---- data

void Volume::put_page(Inode& inode, std::uint64_t number, std::string page) {
  inode.now.pages[number] = std::move(page);
  inode.dirty.insert(number);
}

int Volume::read(Number file, char* to, std::uint64_t length, std::uint64_t offset) const {
  if (is_off_) return -EIO;
  const auto found = inodes_.find(file);
  if (found == inodes_.end()) return -EIO;
  const Content& content = found->second.now;
  if (offset >= content.bytes) return 0;
  length = std::min(length, content.bytes - offset);
  for (std::uint64_t done = 0; done < length;) {
    const std::uint64_t at = offset + done;
    const std::uint64_t part = std::min(length - done, kPage - at % kPage);
    const auto page = content.pages.find(at / kPage);
    if (page == content.pages.end()) {
      std::fill_n(to + done, part, '\0');
    } else {
      std::copy_n(page->second.data() + at % kPage, part, to + done);
    }
    done += part;
  }
  return static_cast<int>(length);
}

int Volume::write(Number file, std::string_view bytes, std::uint64_t offset) {
  if (!may_change()) return -EIO;
  const auto found = inodes_.find(file);
  if (found == inodes_.end()) return -EIO;
  Inode& inode = found->second;
  inode.changed_ns = clock_ns_;
  for (std::uint64_t done = 0; done < bytes.size();) {
    const std::uint64_t at = offset + done;
    const std::uint64_t part = std::min(bytes.size() - done, kPage - at % kPage);
    std::string& page = inode.now.pages[at / kPage];
    page.resize(kPage);
    page.replace(at % kPage, part, bytes, done, part);
    inode.dirty.insert(at / kPage);
    done += part;
  }
  inode.now.bytes = std::max(inode.now.bytes, offset + bytes.size());
  return static_cast<int>(bytes.size());
}

void Volume::zero(Inode& inode, std::uint64_t from, std::uint64_t to) {
  auto page = inode.now.pages.lower_bound(from / kPage);
  while (page != inode.now.pages.end() && page->first * kPage < to) {
    const std::uint64_t start = page->first * kPage;
    const std::uint64_t begin = std::max(from, start) - start;
    const std::uint64_t end = std::min(to - start, kPage);
    if (begin >= end) {
      ++page;
      continue;
    }
    inode.dirty.insert(page->first);
    if (begin == 0 && end == kPage) {
      page = inode.now.pages.erase(page);
      continue;
    }
    std::fill(page->second.begin() + static_cast<std::ptrdiff_t>(begin),
              page->second.begin() + static_cast<std::ptrdiff_t>(end), '\0');
    ++page;
  }
}

int Volume::resize(Number file, std::uint64_t bytes) {
  if (!may_change()) return -EIO;
  const auto found = inodes_.find(file);
  if (found == inodes_.end()) return -EIO;
  Inode& inode = found->second;
  inode.changed_ns = clock_ns_;
  if (bytes < inode.now.bytes) zero(inode, bytes, std::numeric_limits<std::uint64_t>::max());
  inode.now.bytes = bytes;
  return 0;
}

int Volume::allocate(Number file, int mode, std::uint64_t offset, std::uint64_t length) {
  if (!may_change()) return -EIO;
  const auto found = inodes_.find(file);
  if (found == inodes_.end()) return -EIO;
  Inode& inode = found->second;
  if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
    inode.changed_ns = clock_ns_;
    zero(inode, offset, offset + length);
    return 0;
  }
  if (mode == FALLOC_FL_KEEP_SIZE) return 0;
  if (mode != 0) return -EOPNOTSUPP;
  inode.now.bytes = std::max(inode.now.bytes, offset + length);
  return 0;
}

int Volume::sync(Number file, std::string_view path) {
  if (!may_change()) return -EIO;
  const auto found = inodes_.find(file);
  if (found == inodes_.end()) return -EIO;
  ++syncs_;
  if (!lie_.empty() && path.find(lie_) != std::string_view::npos) return 0;
  Inode& inode = found->second;
  for (const std::uint64_t number : inode.dirty) {
    const auto page = inode.now.pages.find(number);
    if (page == inode.now.pages.end()) {
      inode.durable.pages.erase(number);
    } else {
      inode.durable.pages[number] = page->second;
    }
  }
  inode.durable.bytes = inode.now.bytes;
  inode.dirty.clear();
  return 0;
}

// ---- the cut

void Volume::forget_data(Inode& inode, Cut how, Random& random) {
  if (how == Cut::kTorn) {
    if (random.chance(0.5)) inode.durable.bytes = inode.now.bytes;
    for (const std::uint64_t number : inode.dirty) {
      if (random.chance(0.5)) continue;
      const auto page = inode.now.pages.find(number);
      if (page == inode.now.pages.end()) {
        inode.durable.pages.erase(number);
      } else {
        inode.durable.pages[number] = page->second;
      }
    }
  }
  inode.dirty.clear();
  inode.now = inode.durable;
  // What lies behind the end is not there.
  zero(inode, inode.now.bytes, std::numeric_limits<std::uint64_t>::max());
  inode.dirty.clear();
  inode.durable = inode.now;
}

void Volume::go_on() {
  is_off_ = false;
  left_ = 0;
}

void Volume::cut(Cut how, std::uint64_t seed) {
  SeededRandom random(seed);
  const std::uint64_t happened = how == Cut::kLost ? 0 : random.below(pending_.size() + 1);
  for (std::uint64_t i = 0; i < happened; ++i) apply(pending_[i]);
  pending_.clear();
  for (auto& [number, inode] : inodes_) {
    inode.names = inode.durable_names;
    forget_data(inode, how, random);
  }
  drop_unreachable();
  go_on();
}

void Volume::drop_unreachable() {
  std::set<Number> reachable;
  std::vector<Number> next{kRoot};
  while (!next.empty()) {
    const Number number = next.back();
    next.pop_back();
    const auto inode = inodes_.find(number);
    if (inode == inodes_.end() || !reachable.insert(number).second) continue;
    for (const auto& [name, each] : inode->second.names) next.push_back(each);
  }
  std::erase_if(inodes_, [&](const auto& each) { return !reachable.contains(each.first); });
}

}  // namespace farside::test
