// The only file that knows Python. Long calls work in slices: the interpreter lock is released
// during a slice, and Ctrl-C takes effect between two.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "encode.hpp"
#include "split.hpp"
#include "train.hpp"
#include "unicode_tables.hpp"

namespace nb = nanobind;

namespace modelwright {
namespace {

constexpr std::size_t kSliceBytes = std::size_t{4} << 20;

void raise_if_interrupted() {
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

// The contents of bytes, or the UTF-8 of a str. Valid as long as the object is.
std::string_view view_of(nb::handle document) {
  if (PyBytes_Check(document.ptr())) {
    return {PyBytes_AS_STRING(document.ptr()),
            static_cast<std::size_t>(PyBytes_GET_SIZE(document.ptr()))};
  }
  if (PyUnicode_Check(document.ptr())) {
    Py_ssize_t n_bytes = 0;
    const char* utf8 = PyUnicode_AsUTF8AndSize(document.ptr(), &n_bytes);
    if (utf8 == nullptr) throw nb::python_error();  // a lone surrogate has no UTF-8
    return {utf8, static_cast<std::size_t>(n_bytes)};
  }
  const std::string found = nb::cast<std::string>(document.type().attr("__name__"));
  throw nb::type_error(("a document is str or bytes, not " + found).c_str());
}

nb::bytes as_bytes(std::string_view bytes) { return nb::bytes(bytes.data(), bytes.size()); }

template <class Number>
nb::object as_numpy(std::vector<Number>&& numbers) {
  auto kept = std::make_unique<std::vector<Number>>(std::move(numbers));
  kept->shrink_to_fit();
  Number* const data = kept->data();
  const std::size_t size = kept->size();
  nb::capsule owner(kept.release(),
                    [](void* at) noexcept { delete static_cast<std::vector<Number>*>(at); });
  return nb::cast(nb::ndarray<nb::numpy, Number, nb::ndim<1>>(data, {size}, owner));
}

std::vector<nb::bytes> split(nb::handle document) {
  const std::string_view text = view_of(document);
  std::vector<nb::bytes> pieces;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = piece_end(text, from);
    pieces.push_back(as_bytes(text.substr(from, end - from)));
    from = end;
  }
  return pieces;
}

std::size_t count_document(PieceCounter& counter, nb::object document) {
  const std::string_view text = view_of(document);
  for (std::size_t from = 0; from < text.size(); raise_if_interrupted()) {
    const nb::gil_scoped_release unlocked;
    from = counter.count_some(text, from, kSliceBytes);
  }
  return text.size();
}

using Rule = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;

// Builds in place: an encoder holds a mutex, so it cannot move.
void construct_encoder(Encoder* place, const std::vector<nb::bytes>& tokens,
                       const std::vector<std::uint32_t>& byte_ids, const std::vector<Rule>& rules) {
  std::vector<std::string> token_bytes;
  for (const nb::bytes& token : tokens) token_bytes.emplace_back(token.c_str(), token.size());
  ByteIds ids{};
  if (byte_ids.size() != ids.size()) throw nb::value_error("byte_ids needs an id for each byte");
  std::ranges::copy(byte_ids, ids.begin());
  std::vector<MergeRule> merge_rules;
  for (const auto& [left, right, merged] : rules) merge_rules.push_back({left, right, merged});
  new (place) Encoder(std::move(token_bytes), ids, merge_rules);
}

template <class Id>
nb::tuple encode_as(Encoder& encoder, const std::vector<nb::object>& documents,
                    std::optional<std::uint32_t> end_of_text) {
  std::vector<std::string_view> texts;
  for (const nb::object& document : documents) texts.push_back(view_of(document));
  std::vector<Id> ids;
  std::vector<std::int64_t> offsets{0};
  std::size_t from = 0;
  while (offsets.size() <= texts.size()) {
    {
      const nb::gil_scoped_release unlocked;
      std::size_t n_bytes_left = kSliceBytes;
      while (offsets.size() <= texts.size() && n_bytes_left > 0) {
        const std::string_view text = texts[offsets.size() - 1];
        const std::size_t end = encoder.encode_some(text, from, n_bytes_left, ids);
        n_bytes_left -= std::min(n_bytes_left, end - from);
        from = end;
        if (end < text.size()) continue;
        if (end_of_text) ids.push_back(static_cast<Id>(*end_of_text));
        offsets.push_back(static_cast<std::int64_t>(ids.size()));
        from = 0;
      }
    }
    raise_if_interrupted();
  }
  return nb::make_tuple(as_numpy(std::move(ids)), as_numpy(std::move(offsets)));
}

bool ids_fit_16_bits(const Encoder& encoder) {
  return encoder.n_tokens() <= std::size_t{std::numeric_limits<std::uint16_t>::max()} + 1;
}

nb::tuple encode_documents(Encoder& encoder, const std::vector<nb::object>& documents,
                           std::optional<std::uint32_t> end_of_text) {
  return ids_fit_16_bits(encoder) ? encode_as<std::uint16_t>(encoder, documents, end_of_text)
                                  : encode_as<std::uint32_t>(encoder, documents, end_of_text);
}

using IdArray = nb::ndarray<const std::uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

nb::bytes decode(const Encoder& encoder, IdArray ids) {
  const std::span<const std::uint32_t> span(ids.data(), ids.size());
  for (const std::uint32_t id : span) {
    if (id >= encoder.n_tokens()) throw nb::value_error("an id is outside the vocabulary");
  }
  std::string text;
  {
    const nb::gil_scoped_release unlocked;
    text = encoder.decode(span);
  }
  return as_bytes(text);
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> merges_from(const MergeLearner& learner,
                                                                 std::size_t first) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> merges;
  for (std::size_t rank = first; rank < learner.merges().size(); ++rank) {
    merges.emplace_back(learner.merges()[rank].left, learner.merges()[rank].right);
  }
  return merges;
}

}  // namespace

NB_MODULE(_native, module) {
  module.attr("UNICODE_VERSION") = kUnicodeVersion;
  module.def("split", &split, nb::arg("document"));

  nb::class_<PieceCounter>(module, "PieceCounter")
      .def(nb::init<>())
      .def("count", &count_document, nb::arg("document"))
      .def_prop_ro("n_distinct", &PieceCounter::n_distinct);

  nb::class_<MergeLearner>(module, "MergeLearner")
      .def(nb::init<const PieceCounter&>(), nb::arg("counter"),
           nb::call_guard<nb::gil_scoped_release>())
      .def("learn", &MergeLearner::learn, nb::arg("n_merges"),
           nb::call_guard<nb::gil_scoped_release>())
      .def("merges_from", &merges_from, nb::arg("first"));

  nb::class_<Encoder>(module, "Encoder")
      .def("__init__", &construct_encoder, nb::arg("tokens"), nb::arg("byte_ids"), nb::arg("rules"))
      .def("encode_documents", &encode_documents, nb::arg("documents"),
           nb::arg("end_of_text").none())
      .def("decode", &decode, nb::arg("ids"));
}

}  // namespace modelwright
