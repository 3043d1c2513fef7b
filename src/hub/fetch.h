#pragma once

#include "hub/cache.h"
#include "hub/http.h"
#include "hub/listing.h"

namespace orrery::hub_detail {

/// Brings files of one commit into the cache: those that lack, each resumed where an earlier try stopped, checked, then
/// linked.
class Fetcher {
 public:
  Fetcher(const HubSettings& settings, const HubId& id, const WorkOptions& work);

  /// Asks the hub what the revision is and holds.
  Listing list();
  void fetch(const Listing& listing, const std::vector<RemoteFile>& files);

 private:
  void fetch_blob(const Listing& listing, const RemoteFile& file);
  /// One try; true when the blob is there.
  bool try_blob(const Listing& listing, const RemoteFile& file, std::string& failure);
  void check_space(const std::vector<RemoteFile>& lacking) const;
  void report(int64_t more);
  [[noreturn]] void refused(const std::string& place, const HttpAnswer& answer) const;

  const HubSettings& settings_;
  const HubId& id_;
  const WorkOptions& work_;
  CachedRepository repository_;
  HttpClient client_;
  int64_t done_ = 0, total_ = 0, fetched_ = 0;  // bytes; fetched_ is this run's own
  double start_ = 0, last_report_ = 0;          // seconds
};

}  // namespace orrery::hub_detail
