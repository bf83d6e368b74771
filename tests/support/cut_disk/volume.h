// A volume that forgets what was not synced when its power is cut: what a file system may do at
// worst, and no real one does on a day of tests.
//
//   data     of a file: durable once the file is synced (data alone is enough)
//   names    created, renamed, removed, linked: durable once their folder is synced; a rename
//            between two folders, and what it builds on, once either is
//
// All of it is in memory.  Thread: one at a time.  Functions return 0 or a negative errno, as FUSE
// has it.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/random.h"

namespace farside::test {

class Volume final {
 public:
  using Number = std::uint64_t;  // Of an inode; 0: none.
  static constexpr Number kRoot = 1;

  enum class Cut {
    kLost,  // Nothing survives that was not synced.
    kTorn,  // Of data any pages, of names any beginning of what happened, by chance.
  };

  Volume();

  // The power goes with the operation of that number, from now on, that changes anything or syncs:
  // it and all others fail until cut().  0: no such plan.
  void power_off_after(std::uint64_t operations) { left_ = operations; }
  bool is_off() const { return is_off_; }
  std::uint64_t syncs() const { return syncs_; }

  // Syncs of files whose path contains it succeed and do nothing; of all folders: "names"; empty:
  // none lies.
  void lie_about(std::string what) { lie_ = std::move(what); }

  // What failed since power_off_after() was its process, not the power: nothing is forgotten.
  void go_on();

  // The power goes and comes back.
  void cut(Cut how, std::uint64_t seed);

  Number find(std::string_view path) const;  // 0: there is none, or the power is off.
  int attributes(Number number, struct stat& to) const;
  int list(Number folder, const std::function<void(const std::string&, Number)>& each) const;

  int make(std::string_view path, mode_t mode, Number& made);  // A file or a folder, by its mode.
  int remove(std::string_view path, bool is_folder);
  int rename(std::string_view from, std::string_view to);
  int link(std::string_view from, std::string_view to);
  int set_mode(Number number, mode_t mode);

  int read(Number file, char* to, std::uint64_t length, std::uint64_t offset) const;
  int write(Number file, std::string_view bytes, std::uint64_t offset);
  int resize(Number file, std::uint64_t bytes);
  int allocate(Number file, int mode, std::uint64_t offset, std::uint64_t length);
  int sync(Number file, std::string_view path);
  int sync_folder(Number folder);

 private:
  struct Content {
    std::uint64_t bytes = 0;
    std::map<std::uint64_t, std::string> pages;  // Those that are not zeros, by number.
  };
  using Names = std::map<std::string, Number>;
  struct Inode {
    mode_t mode = 0;
    std::int64_t changed_ns = 0;
    Content now;
    Content durable;
    std::set<std::uint64_t> dirty;  // Pages that may differ.
    Names names;
    Names durable_names;
  };
  struct Entry {
    Number folder;
    std::string name;
    Number inode;  // 0: it is gone.
  };
  using Change = std::vector<Entry>;  // One operation: all of it or nothing.
  struct Place {
    Number folder = 0;
    std::string name;
    Number inode = 0;
  };

  bool may_change();  // Counts down.
  Place place(std::string_view path) const;
  void change(Change change);
  void apply(const Change& change);
  void put_page(Inode& inode, std::uint64_t number, std::string page);
  void zero(Inode& inode, std::uint64_t from, std::uint64_t to);
  void forget_data(Inode& inode, Cut how, Random& random);
  void drop_unreachable();

  std::map<Number, Inode> inodes_;
  std::deque<Change> pending_;  // Names that are not durable, in the order of what happened.
  Number next_ = kRoot + 1;
  std::uint64_t left_ = 0;
  bool is_off_ = false;
  std::uint64_t syncs_ = 0;
  std::int64_t clock_ns_ = 1'000'000'000'000'000'000;
  std::string lie_;
};

}  // namespace farside::test
