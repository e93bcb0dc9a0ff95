// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a policy is named: the same for every family.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "compression/tables.hpp"
#include "core/policy/table.hpp"
#include "distillation/tables.hpp"
#include "kernels/common/error.hpp"
#include "routing/tables.hpp"
#include "scheduling/tables.hpp"
#include "tests/contract/family_names.hpp"

namespace pikv {
namespace {

struct FamilyCase {
  std::string name;
  std::vector<std::string> policies;
  std::function<void(const std::string&)> make;
};

template <class Policy>
FamilyCase family(const std::string& name, std::span<const PolicyRow<Policy>> table) {
  for (const auto& row : table) {
    EXPECT_FALSE(row.summary.empty()) << row.name;
    EXPECT_FALSE(row.source.empty()) << row.name;
  }
  return {.name = name,
          .policies = names_of(table),
          .make = [name, table](const std::string& spec) { (void)make_policy(name, table, spec); }};
}

std::vector<FamilyCase> families() {
  return {family("gate", routing::gates()),
          family("kv-owner", routing::kv_routers()),
          family("placement", routing::placements()),
          family("codec", compression::codecs()),
          family("scheduler", scheduling::schedulers()),
          family("loss", distillation::losses())};
}

/// The message of the error that `make` gives.
std::string refusal(const FamilyCase& family, const std::string& spec) {
  try {
    family.make(spec);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  ADD_FAILURE() << family.name << " took '" << spec << "'";
  return {};
}

TEST(PolicyTables, NamesAreDistinctAndEveryRowCanBeMadeByItsNameOrAsksForItsFile) {
  for (const FamilyCase& family : families()) {
    EXPECT_FALSE(family.policies.empty()) << family.name;
    EXPECT_EQ(std::set<std::string>(family.policies.begin(), family.policies.end()).size(),
              family.policies.size());
    for (const std::string& name : family.policies) {
      try {
        family.make(name);
      } catch (const InvalidArgument& refused) {  // one that was fitted asks for its file
        EXPECT_NE(std::string_view(refused.what()).find(name + ": file=..."),
                  std::string_view::npos)
            << refused.what();
      }
    }
  }
}

TEST(PolicyTables, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  for (const FamilyCase& family : families()) {
    for (const char* spec : {"no_such_policy", "", ":a=1", "FULL"}) {
      const std::string message = refusal(family, spec);
      EXPECT_NE(message.find("unknown " + family.name), std::string::npos) << message;
      for (const std::string& name : family.policies) {
        EXPECT_NE(message.find(name), std::string::npos) << message;
      }
    }
  }
}

TEST(PolicyTables, AnUnknownOptionIsAnError) {
  for (const FamilyCase& family : families()) {
    for (const std::string& name : family.policies) {
      EXPECT_NE(refusal(family, name + ":no_such_option=1").find("no_such_option"),
                std::string::npos);
    }
  }
}

TEST(PolicyTables, AMalformedSpecIsAnError) {
  for (const FamilyCase& family : families()) {
    for (const std::string& name : family.policies) {
      for (const char* rest : {":x", ":=1", ":a=1,,b=2", ":a"}) (void)refusal(family, name + rest);
    }
  }
}

TEST(PolicyTables, ASpecThatEndsTooEarlyIsAnError) {
  for (const char* spec : {"block:", "block:tokens=4,"}) {
    EXPECT_THROW((void)parse_policy_spec(spec), InvalidArgument) << spec;
  }
}

TEST(PolicyTables, AnOptionGivenTwiceIsAnError) {
  EXPECT_THROW((void)make_policy("kv-owner", routing::kv_routers(), "block:tokens=4,tokens=8"),
               InvalidArgument);
}

TEST(PolicyTables, AValueOutOfRangeIsAnErrorThatNamesIt) {
  for (const char* spec : {"block:tokens=0", "block:tokens=", "block:tokens=4x", "block:tokens=1e3",
                           "block:tokens=99999999999999999999", "hash:seed=-1"}) {
    EXPECT_THROW((void)make_policy("kv-owner", routing::kv_routers(), spec), InvalidArgument)
        << spec;
  }
  try {
    (void)make_policy("codec", compression::codecs(), "none:dtype=int3");
    FAIL() << "int3 was taken";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "none: dtype = 'int3' is not one of f32, bf16, f16");
  }
}

TEST(PolicyTables, OptionsReachThePolicy) {
  PolicySpec spec = parse_policy_spec("name:a=7,b=two=2");
  EXPECT_EQ(spec.name, "name");
  EXPECT_EQ(spec.options.integer("a", 1, 0, 10), 7);
  EXPECT_EQ(spec.options.integer("absent", 5, 0, 10), 5);
  constexpr std::string_view kAllowed[] = {"one=1", "two=2"};
  EXPECT_EQ(spec.options.choice("b", "one=1", kAllowed), "two=2");
  EXPECT_NO_THROW(spec.options.finish());
}

}  // namespace
}  // namespace pikv
