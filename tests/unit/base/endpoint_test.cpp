#include "common/base/endpoint.h"

#include <gtest/gtest.h>

#include <string>

namespace farside {
namespace {

TEST(Endpoint, IsAHostAndAPort) {
  for (const char* good :
       {"tcp://127.0.0.1:1", "tcp://host:8084", "tcp://a-b.c_d.example:65535", "tcp://[::1]:8084",
        "tcp://[fe80::1:192.0.2.1]:1", "tcp://0.0.0.0:41237"}) {
    EXPECT_TRUE(check_endpoint(good)) << good;
  }
}

TEST(Endpoint, IsNoOtherTransportNorAnythingElseThatLibzmqTakes) {
  for (const std::string bad : {"",
                                "tcp://",
                                "host:1",
                                "tcp://host",
                                "tcp://:1",
                                "tcp://host:",
                                "tcp://host:0",
                                "tcp://host:65536",
                                "tcp://host:*",
                                "tcp://*:1",
                                "tcp://host:1x",
                                "tcp://host:+1",
                                "tcp://host:000001",
                                "tcp://a;b:1",
                                "tcp://192.0.2.1:5;host:1",
                                "tcp://a/b:1",
                                "tcp://a b:1",
                                "tcp://a\n:1",
                                "tcp://::1:80",
                                "tcp://[]:80",
                                "tcp://[::1:80",
                                "tcp://[::1/eth0]:80",
                                "tcp://[host-a]:80",
                                "TCP://host:1",
                                "ipc:///run/x.sock",
                                "inproc://x",
                                "udp://host:1",
                                "ws://host:1",
                                "pgm://eth0;239.0.0.1:1",
                                " tcp://host:1"}) {
    const auto good = check_endpoint(bad);
    ASSERT_FALSE(good) << bad;
    EXPECT_EQ(good.error().code, ErrorCode::kInvalidArgument);
    EXPECT_FALSE(good.error().advice.empty());
  }
  EXPECT_FALSE(check_endpoint("tcp://" + std::string(300, 'a') + ":1"));
}

}  // namespace
}  // namespace farside
