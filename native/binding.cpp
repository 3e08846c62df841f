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
#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "decode.hpp"
#include "encode.hpp"
#include "feed.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "order.hpp"
#include "pack.hpp"
#include "pointwise.hpp"
#include "range.hpp"
#include "rows.hpp"
#include "special.hpp"
#include "split.hpp"
#include "train.hpp"
#include "unicode_tables.hpp"

namespace nb = nanobind;

namespace modelwright {
namespace {

constexpr std::size_t kSliceBytes = std::size_t{4} << 20;
// Up to here the lock is kept: giving it up and taking it back costs as much as the work.
constexpr std::size_t kQuickBytes = std::size_t{1} << 14;
// Prose has more bytes to an id than this: memory is set aside accordingly, and grows where it must.
constexpr std::size_t kFewestBytesAnId = 3;

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

SplitRule rule_named(const std::string& pattern, bool digits_apart) {
  if (pattern == "none" && !digits_apart) return {Pattern::kNone, false};
  if (pattern == "gpt2") return {Pattern::kGpt2, digits_apart};
  if (pattern == "cl100k") return {Pattern::kCl100k, digits_apart};
  if (pattern == "llama3") return {Pattern::kLlama3, digits_apart};
  if (pattern == "o200k") return {Pattern::kO200k, digits_apart};
  throw nb::value_error(("there is no split pattern " + pattern).c_str());
}

// A buffer of whole numbers, such as a numpy array, for as long as this lives.
class Numbers {
 public:
  explicit Numbers(nb::handle source) {
    if (PyObject_GetBuffer(source.ptr(), &view_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
      throw nb::python_error();
    }
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;
  ~Numbers() { PyBuffer_Release(&view_); }

  // Calls `visit(pointer, n)` with the numbers in their own type.
  template <class Visit>
  auto visit(Visit&& visit) const {
    const std::string_view format = view_.format == nullptr ? "B" : view_.format;
    const char kind = format.empty() ? '?' : format.back();
    const bool is_signed = kind >= 'a' && kind <= 'z';
    const bool is_whole = std::string_view("hHiIlLqQ").find(kind) != std::string_view::npos;
    if (!is_whole || view_.ndim != 1 || (format.size() > 1 && format[0] != '<' && format[0] != '=')) {
      throw nb::type_error("ids are one row of whole numbers of 16, 32 or 64 bits");
    }
    const auto call = [&](auto* data) {
      return visit(data, static_cast<std::size_t>(view_.shape[0]));
    };
    switch (view_.itemsize) {
      case 2:
        return is_signed ? call(static_cast<const std::int16_t*>(view_.buf))
                         : call(static_cast<const std::uint16_t*>(view_.buf));
      case 4:
        return is_signed ? call(static_cast<const std::int32_t*>(view_.buf))
                         : call(static_cast<const std::uint32_t*>(view_.buf));
      default:
        return is_signed ? call(static_cast<const std::int64_t*>(view_.buf))
                         : call(static_cast<const std::uint64_t*>(view_.buf));
    }
  }

 private:
  Py_buffer view_{};
};

// A numpy array that takes over the memory of `data`, which std::free gives back.
template <class Number>
nb::object take_over(Number* data, std::size_t size) {
  nb::capsule owner(data, [](void* at) noexcept { std::free(at); });
  return nb::cast(nb::ndarray<nb::numpy, Number, nb::ndim<1>>(data, {size}, owner));
}

// numpy.empty and the dtypes, looked up once.
struct NumpyNames {
  nb::object empty;
  nb::object uint16;
  nb::object uint32;
  nb::object int64;
};

const NumpyNames& numpy_names() {
  static const NumpyNames* const names = [] {
    const nb::module_ numpy = nb::module_::import_("numpy");
    const nb::object dtype = numpy.attr("dtype");
    return new NumpyNames{numpy.attr("empty"), dtype("uint16"), dtype("uint32"), dtype("int64")};
  }();
  return *names;
}

template <class Number>
nb::object copy_to_numpy(const Number* data, std::size_t size) {
  const NumpyNames& names = numpy_names();
  const nb::handle dtype = std::is_same_v<Number, std::uint16_t>   ? names.uint16
                           : std::is_same_v<Number, std::uint32_t> ? names.uint32
                                                                   : names.int64;
  const nb::object n = nb::steal(PyLong_FromSize_t(size));
  PyObject* const arguments[] = {n.ptr(), dtype.ptr()};
  nb::object array = nb::steal(PyObject_Vectorcall(names.empty.ptr(), arguments, 2, nullptr));
  Py_buffer view;
  if (!array.is_valid() || PyObject_GetBuffer(array.ptr(), &view, PyBUF_WRITABLE) != 0) {
    throw nb::python_error();
  }
  if (size > 0) std::copy_n(data, size, static_cast<Number*>(view.buf));
  PyBuffer_Release(&view);
  return array;
}

template <class Id>
nb::object as_numpy(IdBuffer<Id>& ids) {
  constexpr std::size_t kWorthTakingOver = std::size_t{1} << 15;
  if (ids.size() < kWorthTakingOver) return copy_to_numpy(ids.data(), ids.size());
  const std::size_t size = ids.size();
  return take_over(ids.release(), size);
}

std::vector<nb::bytes> split(nb::handle document, const std::string& pattern, bool digits_apart) {
  const std::string_view text = view_of(document);
  std::vector<nb::bytes> pieces;
  Splitter splitter(rule_named(pattern, digits_apart));
  for (std::size_t from = 0; from < text.size();) {
    const Splitter::Ends ends = splitter.next(text, from);
    std::size_t start = from;
    for (std::size_t i = 0; i < ends.size; ++i) {
      const std::size_t end = from + ends.data[i];
      pieces.push_back(as_bytes(text.substr(start, end - start)));
      start = end;
    }
    from = start;
  }
  return pieces;
}

void construct_specials(SpecialTokens* place, const std::vector<nb::bytes>& texts,
                        const std::vector<std::uint32_t>& ids) {
  std::vector<SpecialToken> tokens;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    tokens.push_back({std::string(texts[i].c_str(), texts[i].size()), ids.at(i)});
  }
  new (place) SpecialTokens(std::move(tokens));
}

// The ends of pieces that were cut elsewhere: ascending, the last one at the end of the text.
template <class Visit>
void for_each_piece(std::string_view text, nb::handle ends, Visit&& visit) {
  const Numbers numbers(ends);
  numbers.visit([&](const auto* data, std::size_t n) {
    std::size_t start = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto end = static_cast<std::size_t>(data[i]);
      if (end < start || end > text.size()) throw nb::value_error("piece ends have to ascend");
      if (end > start) visit(text.substr(start, end - start));
      start = end;
    }
    if (start != text.size()) throw nb::value_error("the last piece has to end with the text");
  });
}

// ---- counting and training

struct CountingConsumer {
  PieceCounter& counter;
  std::size_t take(std::string_view text, std::size_t settled) {
    return counter.count_some(text, 0, text.size(), settled);
  }
  void take_special(const SpecialToken&) {}
};

std::size_t count_document(PieceCounter& counter, nb::handle document,
                           const SpecialTokens& specials) {
  const std::string_view text = view_of(document);
  const auto count_part = [&](std::string_view part) {
    for (std::size_t from = 0; from < part.size(); raise_if_interrupted()) {
      const nb::gil_scoped_release unlocked;
      from = counter.count_some(part, from, kSliceBytes, part.size());
    }
  };
  for_each_part(text, specials, count_part, [](const SpecialToken&) {});
  return text.size();
}

void count_pieces(PieceCounter& counter, nb::handle document, nb::handle ends) {
  for_each_piece(view_of(document), ends,
                 [&](std::string_view piece) { counter.count_piece(piece, 1); });
}

std::uint64_t count_range(PieceCounter& counter, int descriptor, std::uint64_t begin,
                          std::uint64_t end, const SpecialTokens& specials) {
  CountingConsumer consumer{counter};
  return feed_range(descriptor, begin, end, counter.rule(), specials, consumer);
}

// Counts text that comes in chunks.
class CountingStream {
 public:
  CountingStream(PieceCounter& counter, const SpecialTokens& specials)
      : consumer_{counter}, feed_(counter.rule(), specials) {}

  void feed(nb::handle chunk) {
    const std::string_view text = view_of(chunk);
    const nb::gil_scoped_release unlocked;
    std::copy(text.begin(), text.end(), feed_.room(text.size()));
    feed_.advance(text.size(), false, consumer_);
  }
  void finish() {
    const nb::gil_scoped_release unlocked;
    feed_.advance(0, true, consumer_);
  }

 private:
  CountingConsumer consumer_;
  Feed feed_;
};

void construct_learner(MergeLearner* place, PieceCounter& counter, const std::string& ties,
                       std::int64_t min_frequency, std::uint64_t max_token_length) {
  LearnerOptions options;
  if (ties == "lexicographic") {
    options.ties = Ties::kGreatestBytes;
  } else if (ties == "smallest-ids") {
    options.ties = Ties::kSmallestIds;
  } else if (ties == "huggingface") {
    options.ties = Ties::kSmallestSpelled;
  } else {
    throw nb::value_error(("there is no tie rule " + ties).c_str());
  }
  options.min_frequency = min_frequency;
  options.max_token_length = max_token_length;
  const nb::gil_scoped_release unlocked;
  new (place) MergeLearner(counter, options);
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> merges_from(const MergeLearner& learner,
                                                                 std::size_t first) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> merges;
  for (std::size_t rank = first; rank < learner.merges().size(); ++rank) {
    merges.emplace_back(learner.merges()[rank].left, learner.merges()[rank].right);
  }
  return merges;
}

// ---- encoding and decoding

// Encoders that are not in use; each thread borrows one.
template <class Id>
class EncoderPool {
 public:
  EncoderPool(SplitRule rule, const MergeTable& table) : rule_(rule), table_(table) {}

  class Borrowed {
   public:
    explicit Borrowed(EncoderPool& pool) : pool_(pool), encoder_(pool.take()) {}
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    ~Borrowed() { pool_.put(std::move(encoder_)); }
    Encoder<Id>& operator*() { return *encoder_; }
    Encoder<Id>* operator->() { return encoder_.get(); }

   private:
    EncoderPool& pool_;
    std::unique_ptr<Encoder<Id>> encoder_;
  };

 private:
  std::unique_ptr<Encoder<Id>> take() {
    {
      const std::lock_guard turn(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Encoder<Id>> encoder = std::move(idle_.back());
        idle_.pop_back();
        return encoder;
      }
    }
    return std::make_unique<Encoder<Id>>(rule_, table_);
  }
  void put(std::unique_ptr<Encoder<Id>> encoder) {
    const std::lock_guard turn(mutex_);
    idle_.push_back(std::move(encoder));
  }

  SplitRule rule_;
  const MergeTable& table_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Encoder<Id>>> idle_;
};

template <class Id>
struct EncodingConsumer {
  Encoder<Id>& encoder;
  IdBuffer<Id>& ids;
  std::size_t take(std::string_view text, std::size_t settled) {
    return encoder.encode_some(text, 0, text.size(), settled, ids);
  }
  void take_special(const SpecialToken& token) { ids.push_back(static_cast<Id>(token.id)); }
};

using Rule = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;

// What a tokenizer needs at run time.
class Codec {
 public:
  Codec(const std::vector<nb::bytes>& tokens, const std::vector<std::uint32_t>& byte_ids,
        const std::vector<Rule>& rules, const std::string& pattern, bool digits_apart)
      : rule_(rule_named(pattern, digits_apart)),
        decoder_(strings_of(tokens)),
        table_(checked(byte_ids, tokens.size()), rules_of(rules)) {
    const bool fits_16_bits =
        tokens.size() <= std::size_t{std::numeric_limits<std::uint16_t>::max()} + 1;
    if (fits_16_bits) {
      pool_.emplace<EncoderPool<std::uint16_t>>(rule_, table_);
    } else {
      pool_.emplace<EncoderPool<std::uint32_t>>(rule_, table_);
    }
  }

  // Calls `work(pool)` with the pool for the type that this vocabulary's ids take.
  template <class Work>
  auto with_pool(Work&& work) {
    if (auto* const narrow = std::get_if<EncoderPool<std::uint16_t>>(&pool_)) return work(*narrow);
    return work(std::get<EncoderPool<std::uint32_t>>(pool_));
  }

  nb::object encode(nb::handle document) {
    const std::string_view text = view_of(document);
    return with_pool([&]<class Id>(EncoderPool<Id>& pool) {
      IdBuffer<Id> ids;
      typename EncoderPool<Id>::Borrowed encoder(pool);
      if (text.size() <= kQuickBytes) {
        encoder->encode_some(text, 0, text.size(), text.size(), ids);
      } else {
        ids.room(text.size() / kFewestBytesAnId);
        encode_in_slices(*encoder, text, ids);
      }
      return as_numpy(ids);
    });
  }

  nb::object encode_with_specials(nb::handle document, const SpecialTokens& specials) {
    const std::string_view text = view_of(document);
    return with_pool([&]<class Id>(EncoderPool<Id>& pool) {
      IdBuffer<Id> ids;
      ids.room(text.size() / kFewestBytesAnId);
      typename EncoderPool<Id>::Borrowed encoder(pool);
      for_each_part(
          text, specials, [&](std::string_view part) { encode_in_slices(*encoder, part, ids); },
          [&](const SpecialToken& token) { ids.push_back(static_cast<Id>(token.id)); });
      return as_numpy(ids);
    });
  }

  nb::object encode_pieces(nb::handle document, nb::handle ends) {
    const std::string_view text = view_of(document);
    return with_pool([&]<class Id>(EncoderPool<Id>& pool) {
      IdBuffer<Id> ids;
      typename EncoderPool<Id>::Borrowed encoder(pool);
      for_each_piece(text, ends, [&](std::string_view piece) { encoder->encode_piece(piece, ids); });
      return as_numpy(ids);
    });
  }

  nb::object encode_range(int descriptor, std::uint64_t begin, std::uint64_t end,
                          const SpecialTokens& specials) {
    return with_pool([&]<class Id>(EncoderPool<Id>& pool) {
      IdBuffer<Id> ids;
      {
        const nb::gil_scoped_release unlocked;
        typename EncoderPool<Id>::Borrowed encoder(pool);
        EncodingConsumer<Id> consumer{*encoder, ids};
        feed_range(descriptor, begin, end, rule_, specials, consumer);
      }
      return as_numpy(ids);
    });
  }

  // Encodes documents end to end on some threads; each takes the next stretch of the text until
  // none is left, so the ids do not depend on how many there are.
  nb::tuple encode_documents(const std::vector<nb::object>& documents,
                             std::optional<std::uint32_t> end_of_text, std::size_t n_threads) {
    std::vector<std::string_view> texts;
    for (const nb::object& document : documents) texts.push_back(view_of(document));
    return with_pool([&]<class Id>(EncoderPool<Id>& pool) {
      const std::vector<Stretch> stretches = stretches_of(texts);
      std::vector<IdBuffer<Id>> parts(stretches.size());
      std::vector<std::vector<std::size_t>> ends(stretches.size());
      const auto work_on = [&](Encoder<Id>& encoder, std::size_t i) {
        const Stretch& stretch = stretches[i];
        std::size_t from = stretch.from;
        for (std::size_t document = stretch.document; document < stretch.last_document;
             ++document, from = 0) {
          const std::string_view text = texts[document];
          encoder.encode_some(text, from, text.size(), text.size(), parts[i]);
          if (end_of_text) parts[i].push_back(static_cast<Id>(*end_of_text));
          ends[i].push_back(parts[i].size());
        }
        if (stretch.to > from) {
          const std::string_view text =
              texts[stretch.last_document].substr(0, stretch.to);
          encoder.encode_some(text, from, text.size(), text.size(), parts[i]);
        }
      };
      run_on_threads(pool, stretches.size(), n_threads, work_on);
      return join(parts, ends, documents.size());
    });
  }

  nb::bytes decode(nb::handle ids) const {
    const Numbers numbers(ids);
    return numbers.visit([this](const auto* data, std::size_t n_ids) {
      const Decoder::Measure measure = measured(data, n_ids);
      nb::bytes text = nb::steal<nb::bytes>(
          PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(measure.n_bytes)));
      if (!text.is_valid()) throw nb::python_error();
      char* const out = PyBytes_AS_STRING(text.ptr());
      use_huge_pages(out, measure.n_bytes);
      if (measure.n_bytes <= kQuickBytes) {
        decoder_.decode(data, n_ids, out, measure.n_bytes);
      } else {
        const nb::gil_scoped_release unlocked;
        decoder_.decode(data, n_ids, out, measure.n_bytes);
      }
      return text;
    });
  }

  // Encodes text that comes in chunks; holds on to what it borrows.
  template <class Id>
  class Stream {
   public:
    Stream(Codec& codec, EncoderPool<Id>& pool, const SpecialTokens& specials)
        : encoder_(pool), feed_(codec.rule_, specials) {}
    nb::object advance(std::string_view chunk, bool is_end) {
      IdBuffer<Id> ids;
      {
        const nb::gil_scoped_release unlocked;
        EncodingConsumer<Id> consumer{*encoder_, ids};
        std::copy(chunk.begin(), chunk.end(), feed_.room(chunk.size()));
        feed_.advance(chunk.size(), is_end, consumer);
      }
      return as_numpy(ids);
    }

   private:
    typename EncoderPool<Id>::Borrowed encoder_;
    Feed feed_;
  };

 private:
  // Part of the documents: from byte `from` of `document` to byte `to` of `last_document`.
  struct Stretch {
    std::size_t document;
    std::size_t from;
    std::size_t last_document;
    std::size_t to;
  };

  static std::vector<std::string> strings_of(const std::vector<nb::bytes>& tokens) {
    if (tokens.size() > MergeTable::kMostTokens) {
      throw nb::value_error("a vocabulary may have up to 2,097,152 tokens");
    }
    std::vector<std::string> strings;
    for (const nb::bytes& token : tokens) strings.emplace_back(token.c_str(), token.size());
    return strings;
  }

  static ByteIds checked(const std::vector<std::uint32_t>& byte_ids, std::size_t n_tokens) {
    ByteIds ids{};
    if (byte_ids.size() != ids.size()) throw nb::value_error("byte_ids needs an id for each byte");
    for (const std::uint32_t id : byte_ids) {
      if (id >= n_tokens) throw nb::value_error("a byte's id is outside the vocabulary");
    }
    std::ranges::copy(byte_ids, ids.begin());
    return ids;
  }

  std::vector<MergeRule> rules_of(const std::vector<Rule>& rules) const {
    const std::size_t n_tokens = decoder_.n_tokens();
    std::vector<MergeRule> merge_rules;
    for (const auto& [left, right, merged] : rules) {
      if (std::max({left, right, merged}) >= n_tokens) {
        throw nb::value_error("a merge's id is outside the vocabulary");
      }
      merge_rules.push_back({left, right, merged});
    }
    return merge_rules;
  }

  template <class Id>
  static void encode_in_slices(Encoder<Id>& encoder, std::string_view text, IdBuffer<Id>& ids) {
    for (std::size_t from = 0; from < text.size(); raise_if_interrupted()) {
      const nb::gil_scoped_release unlocked;
      from = encoder.encode_some(text, from, kSliceBytes, text.size(), ids);
    }
  }

  // Cuts the documents into stretches of about the size of a slice.
  std::vector<Stretch> stretches_of(const std::vector<std::string_view>& texts) const {
    std::vector<Stretch> stretches;
    Stretch open{0, 0, 0, 0};
    std::size_t n_bytes = 0;
    const auto close = [&](std::size_t document, std::size_t at) {
      open.last_document = document;
      open.to = at;
      stretches.push_back(open);
      open = {document, at, document, at};
      n_bytes = 0;
    };
    for (std::size_t document = 0; document < texts.size(); ++document) {
      const std::string_view text = texts[document];
      std::size_t from = 0;
      while (text.size() - from > kSliceBytes - n_bytes) {
        std::size_t cut = from + kSliceBytes - n_bytes;
        while (cut > 0 && cut < text.size() && !always_cut_between(rule_, text[cut - 1], text[cut])) {
          ++cut;
        }
        if (cut == text.size()) break;
        close(document, cut);
        from = cut;
      }
      n_bytes += text.size() - from;
      if (n_bytes >= kSliceBytes) close(document + 1, 0);
    }
    if (open.document < texts.size()) close(texts.size(), 0);
    return stretches;
  }

  template <class Id, class Work>
  static void run_on_threads(EncoderPool<Id>& pool, std::size_t n_tasks, std::size_t n_threads,
                             const Work& work_on) {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> is_stopped{false};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto work = [&] {
      try {
        typename EncoderPool<Id>::Borrowed encoder(pool);
        while (!is_stopped) {
          const std::size_t task = next++;
          if (task >= n_tasks) break;
          work_on(*encoder, task);
        }
      } catch (...) {
        const std::lock_guard turn(failure_mutex);
        failure = std::current_exception();
        is_stopped = true;
      }
    };
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < std::min(n_threads, n_tasks); ++i) helpers.emplace_back(work);
    bool is_interrupted = false;
    {
      typename EncoderPool<Id>::Borrowed encoder(pool);
      while (!is_stopped && !is_interrupted) {
        const std::size_t task = next++;
        if (task >= n_tasks) break;
        try {
          const nb::gil_scoped_release unlocked;
          work_on(*encoder, task);
        } catch (...) {
          const std::lock_guard turn(failure_mutex);
          failure = std::current_exception();
          is_stopped = true;
        }
        is_interrupted = PyErr_CheckSignals() != 0;
      }
    }
    is_stopped = is_stopped || is_interrupted;
    {
      const nb::gil_scoped_release unlocked;
      helpers.clear();  // waits for them
    }
    if (is_interrupted) throw nb::python_error();
    if (failure) std::rethrow_exception(failure);
  }

  template <class Id>
  static nb::tuple join(std::vector<IdBuffer<Id>>& parts,
                        const std::vector<std::vector<std::size_t>>& ends, std::size_t n_documents) {
    std::vector<std::int64_t> offsets{0};
    offsets.reserve(n_documents + 1);
    std::size_t n_ids = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      for (const std::size_t end : ends[i]) offsets.push_back(static_cast<std::int64_t>(n_ids + end));
      n_ids += parts[i].size();
    }
    nb::object offsets_array = copy_to_numpy(offsets.data(), offsets.size());
    if (parts.size() == 1) return nb::make_tuple(as_numpy(parts[0]), offsets_array);
    IdBuffer<Id> all;
    Id* out = all.room(n_ids);
    for (IdBuffer<Id>& part : parts) {
      if (part.size() > 0) out = std::copy_n(part.data(), part.size(), out);
      std::free(part.release());
    }
    all.end_at(out);
    return nb::make_tuple(as_numpy(all), offsets_array);
  }

  template <class Id>
  Decoder::Measure measured(const Id* ids, std::size_t n_ids) const {
    const Decoder::Measure measure = decoder_.measure(ids, n_ids);
    if (measure.first_unknown < n_ids) {
      const std::string message =
          "id " + std::to_string(ids[measure.first_unknown]) + " at position " +
          std::to_string(measure.first_unknown) + " is outside the vocabulary, whose ids are 0 to " +
          std::to_string(decoder_.n_tokens() - 1);
      throw nb::value_error(message.c_str());
    }
    return measure;
  }

  SplitRule rule_;
  Decoder decoder_;
  MergeTable table_;
  std::variant<std::monostate, EncoderPool<std::uint16_t>, EncoderPool<std::uint32_t>> pool_;
};

class EncodingStream {
 public:
  EncodingStream(Codec& codec, const SpecialTokens& specials) {
    codec.with_pool([&]<class Id>(EncoderPool<Id>& pool) {
      stream_.emplace<Codec::Stream<Id>>(codec, pool, specials);
    });
  }

  nb::object feed(nb::handle chunk) { return advance(view_of(chunk), false); }
  nb::object finish() { return advance({}, true); }

 private:
  nb::object advance(std::string_view chunk, bool is_end) {
    if (auto* const narrow = std::get_if<Codec::Stream<std::uint16_t>>(&stream_)) {
      return narrow->advance(chunk, is_end);
    }
    return std::get<Codec::Stream<std::uint32_t>>(stream_).advance(chunk, is_end);
  }

  std::variant<std::monostate, Codec::Stream<std::uint16_t>, Codec::Stream<std::uint32_t>> stream_;
};

std::uint64_t find_cut(int descriptor, std::uint64_t at, const std::string& pattern,
                       bool digits_apart, const SpecialTokens& specials) {
  const SplitRule rule = rule_named(pattern, digits_apart);
  const nb::gil_scoped_release unlocked;
  return next_cut(descriptor, at, rule, specials);
}

// ---- what a training step does to each number

// torch's names, looked up once. Asking a tensor for its address costs less than an exchange by
// DLPack, which also refuses tensors that want a gradient; neither needs torch to compile.
struct TorchNames {
  nb::object float32;
  nb::object bfloat16;
  nb::object int64;
};

const TorchNames& torch_names() {
  static const TorchNames* const names = [] {
    const nb::module_ torch = nb::module_::import_("torch");
    return new TorchNames{torch.attr("float32"), torch.attr("bfloat16"), torch.attr("int64")};
  }();
  return *names;
}

// A torch tensor in this computer's memory, row by row, as long as the object is.
class TorchTensor {
 public:
  TorchTensor(nb::handle tensor, const char* name) : dtype_(tensor.attr("dtype")), name_(name) {
    if (!nb::cast<bool>(tensor.attr("is_cpu"))) refuse("is not in the processor's memory");
    if (!nb::cast<bool>(tensor.attr("is_contiguous")())) refuse("is not contiguous");
    for (const nb::handle size : tensor.attr("shape")) {
      shape_.push_back(nb::cast<std::size_t>(size));
      size_ *= shape_.back();
    }
    address_ = nb::cast<std::uintptr_t>(tensor.attr("data_ptr")());
  }

  bool is_fp32() const { return dtype_.is(torch_names().float32); }
  bool is_bf16() const { return dtype_.is(torch_names().bfloat16); }
  bool is_int64() const { return dtype_.is(torch_names().int64); }
  std::size_t size() const { return size_; }
  const std::vector<std::size_t>& shape() const { return shape_; }

  template <class Number>
  Number* data() const {
    return reinterpret_cast<Number*>(address_);
  }

  void require_like(const TorchTensor& other) const {
    if (!dtype_.is(other.dtype_)) refuse("has another dtype than the numbers it belongs to");
    if (shape_ != other.shape_) refuse("has another shape than the numbers it belongs to");
  }

  [[noreturn]] void refuse(const char* reason) const {
    throw nb::value_error((std::string(name_) + ": the tensor " + reason).c_str());
  }

 private:
  nb::object dtype_;
  const char* name_;
  std::vector<std::size_t> shape_;
  std::size_t size_ = 1;
  std::uintptr_t address_ = 0;
};

// Calls `work(loops, number)` with the loops for a tensor's kind of number, and a number of it.
template <class Work>
auto with_loops(const TorchTensor& tensor, Work&& work) {
  if (tensor.is_fp32()) return work(pointwise_loops<float>(), float{});
  if (tensor.is_bf16()) return work(pointwise_loops<Bfloat16>(), Bfloat16{});
  tensor.refuse("is neither float32 nor bfloat16");
}

double turn_into_slope(nb::handle logits, nb::handle targets, std::size_t n_vocab, double scale) {
  const TorchTensor rows(logits, "logits");
  const TorchTensor wanted(targets, "targets");
  if (rows.shape().size() != 2) rows.refuse("has other than two axes");
  if (!wanted.is_int64()) wanted.refuse("is not int64");
  if (wanted.shape().size() != 1 || wanted.size() != rows.shape()[0]) {
    wanted.refuse("is not one target a row of logits");
  }
  if (n_vocab == 0 || n_vocab > rows.shape()[1]) {
    throw nb::value_error("n_vocab is at least one and at most the columns of the logits");
  }
  const auto* const target = wanted.data<const std::int64_t>();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    // -1 is `not_a_target`.
    if (target[i] < -1 || target[i] >= static_cast<std::int64_t>(n_vocab)) {
      wanted.refuse("has a target that is neither -1 nor below n_vocab");
    }
  }
  return with_loops(rows, [&](const auto& loops, auto number) {
    std::vector<float> scratch(rows.is_fp32() ? 0 : n_vocab);
    const nb::gil_scoped_release unlocked;
    return loops.softmax_slope(rows.data<decltype(number)>(), target, rows.shape()[0],
                               rows.shape()[1], n_vocab, static_cast<float>(scale),
                               scratch.data());
  });
}

void fill_gelu(nb::handle x, nb::handle value, std::optional<nb::handle> slope) {
  const TorchTensor from(x, "x");
  const TorchTensor to(value, "value");
  to.require_like(from);
  std::optional<TorchTensor> slopes;
  if (slope) slopes.emplace(*slope, "slope").require_like(from);
  with_loops(from, [&](const auto& loops, auto number) {
    using Number = decltype(number);
    const nb::gil_scoped_release unlocked;
    loops.gelu(from.data<const Number>(), to.data<Number>(),
               slopes ? slopes->data<Number>() : nullptr, from.size());
  });
}

void fill_swiglu(nb::handle gate, nb::handle up, nb::handle value,
                 std::optional<nb::handle> gate_slope, std::optional<nb::handle> up_slope) {
  const TorchTensor gates(gate, "gate");
  const TorchTensor ups(up, "up");
  const TorchTensor to(value, "value");
  ups.require_like(gates);
  to.require_like(gates);
  if (gate_slope.has_value() != up_slope.has_value()) {
    throw nb::value_error("gate_slope and up_slope: give both or neither");
  }
  std::optional<TorchTensor> gate_slopes;
  std::optional<TorchTensor> up_slopes;
  if (gate_slope) gate_slopes.emplace(*gate_slope, "gate_slope").require_like(gates);
  if (up_slope) up_slopes.emplace(*up_slope, "up_slope").require_like(gates);
  with_loops(gates, [&](const auto& loops, auto number) {
    using Number = decltype(number);
    const nb::gil_scoped_release unlocked;
    loops.swiglu(gates.data<const Number>(), ups.data<const Number>(), to.data<Number>(),
                 gate_slopes ? gate_slopes->data<Number>() : nullptr,
                 up_slopes ? up_slopes->data<Number>() : nullptr, gates.size());
  });
}

// ---- the order of samples, and rows of tokens

template <class Number, std::size_t n_axes>
using Array = nb::ndarray<Number, nb::ndim<n_axes>, nb::c_contig, nb::device::cpu>;

template <class Number>
nb::object take_over(std::vector<Number>&& numbers) {
  auto* const kept = new std::vector<Number>(std::move(numbers));
  nb::capsule owner(kept, [](void* at) noexcept { delete static_cast<std::vector<Number>*>(at); });
  return nb::cast(nb::ndarray<nb::numpy, Number, nb::ndim<1>>(kept->data(), {kept->size()}, owner));
}

void permute_numbers(const Array<std::int64_t, 1>& numbers, std::uint64_t n, std::uint64_t key) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (static_cast<std::uint64_t>(numbers.data()[i]) >= n) {
      throw nb::value_error("a number is not below n");
    }
  }
  const nb::gil_scoped_release unlocked;
  permute(numbers.data(), numbers.size(), n, key);
}

nb::tuple pack_documents(const Array<const std::int64_t, 1>& document_starts,
                         std::uint32_t context) {
  if (context == 0) throw nb::value_error("a row has at least one place");
  const std::span<const std::int64_t> starts(document_starts.data(), document_starts.size());
  if (!std::ranges::is_sorted(starts)) throw nb::value_error("document starts have to ascend");
  if (starts.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw nb::value_error("there are too many documents to pack at once");
  }
  Packing packing;
  {
    const nb::gil_scoped_release unlocked;
    packing = pack(starts, context);
  }
  return nb::make_tuple(take_over(std::move(packing.starts)), take_over(std::move(packing.lengths)),
                        take_over(std::move(packing.row_offsets)));
}

// Tokens in several arrays, which are kept for as long as this lives.
class TokenRows {
 public:
  explicit TokenRows(const std::vector<nb::object>& parts) {
    if (!hold<std::uint16_t>(parts) && !hold<std::uint32_t>(parts)) {
      throw nb::type_error("tokens are rows of uint16 or, all of them, of uint32");
    }
  }

  // Row i of `rows` becomes the tokens from starts[i] on.
  void copy(const Array<const std::int64_t, 1>& starts, nb::handle rows) const {
    with_tokens([&]<class Id>(const TokenParts<Id>& tokens) {
      const auto out = nb::cast<Array<Id, 2>>(rows);
      const std::size_t n = out.shape(1);
      if (out.shape(0) != starts.size()) throw nb::value_error("each row has one start");
      for (std::size_t i = 0; i < starts.size(); ++i) {
        require_inside(tokens, starts.data()[i], n);
      }
      const nb::gil_scoped_release unlocked;
      for (std::size_t i = 0; i < starts.size(); ++i) {
        tokens.read(static_cast<std::size_t>(starts.data()[i]), n, out.data() + i * n);
      }
    });
  }

  // Fills the rows of the given numbers; rows[0] are inputs, rows[1] targets, and n_filled says how
  // many places of each row are taken.
  void copy_packed(const Array<const std::int64_t, 1>& numbers,
                   const Array<const std::int64_t, 1>& starts,
                   const Array<const std::uint32_t, 1>& lengths,
                   const Array<const std::int64_t, 1>& row_offsets, std::uint32_t end_of_text,
                   nb::handle rows, const Array<std::int32_t, 2>& positions,
                   const Array<std::int32_t, 2>& documents,
                   const Array<std::int32_t, 1>& n_filled) const {
    with_tokens([&]<class Id>(const TokenParts<Id>& tokens) {
      const auto out = nb::cast<Array<Id, 3>>(rows);
      const std::size_t n_rows = numbers.size();
      const std::size_t context = out.shape(2);
      if (out.shape(0) != 2 || out.shape(1) != n_rows || positions.shape(0) != n_rows ||
          positions.shape(1) != context || documents.shape(0) != n_rows ||
          documents.shape(1) != context || n_filled.size() != n_rows ||
          lengths.size() != starts.size()) {
        throw nb::value_error("the shapes do not agree");
      }
      const auto segments_of = [&](std::size_t i) {
        const auto number = static_cast<std::size_t>(numbers.data()[i]);
        const auto first = static_cast<std::size_t>(row_offsets.data()[number]);
        const auto last = static_cast<std::size_t>(row_offsets.data()[number + 1]);
        return std::pair(std::span(starts.data() + first, last - first),
                         std::span(lengths.data() + first, last - first));
      };
      for (std::size_t i = 0; i < n_rows; ++i) {
        const std::int64_t number = numbers.data()[i];
        if (number < 0 || static_cast<std::size_t>(number) + 1 >= row_offsets.size()) {
          throw nb::index_error("there is no such row");
        }
        const std::int64_t first = row_offsets.data()[number];
        const std::int64_t last = row_offsets.data()[number + 1];
        if (first < 0 || last < first || static_cast<std::size_t>(last) > starts.size()) {
          throw nb::value_error("row offsets have to ascend and end with the segments");
        }
        std::size_t n_places = 0;
        const auto [its_starts, its_lengths] = segments_of(i);
        for (std::size_t segment = 0; segment < its_starts.size(); ++segment) {
          require_inside(tokens, its_starts[segment], its_lengths[segment]);
          n_places += its_lengths[segment];
          if (its_lengths[segment] == 0) throw nb::value_error("no segment is empty");
        }
        if (n_places > context) throw nb::value_error("a row is too long");
      }
      const nb::gil_scoped_release unlocked;
      for (std::size_t i = 0; i < n_rows; ++i) {
        const auto [its_starts, its_lengths] = segments_of(i);
        const std::size_t from = i * context;
        const PackedRow<Id> row{out.data() + from, out.data() + n_rows * context + from,
                                positions.data() + from, documents.data() + from};
        n_filled.data()[i] = static_cast<std::int32_t>(
            fill_row(tokens, its_starts, its_lengths, context, static_cast<Id>(end_of_text), row));
      }
    });
  }

 private:
  template <class Id>
  bool hold(const std::vector<nb::object>& parts) {
    std::vector<Array<const Id, 1>> arrays;
    std::vector<std::span<const Id>> spans;
    for (const nb::object& part : parts) {
      Array<const Id, 1> array;
      if (!nb::try_cast(part, array, false)) return false;
      spans.emplace_back(array.data(), array.size());
      arrays.push_back(std::move(array));
    }
    arrays_ = std::move(arrays);
    tokens_ = TokenParts<Id>(std::move(spans));
    return true;
  }

  template <class Visit>
  void with_tokens(Visit&& visit) const {
    std::visit(std::forward<Visit>(visit), tokens_);
  }

  template <class Id>
  static void require_inside(const TokenParts<Id>& tokens, std::int64_t start, std::size_t n) {
    if (start < 0 || n > tokens.n_tokens() ||
        static_cast<std::size_t>(start) > tokens.n_tokens() - n) {
      throw nb::index_error("a row reaches beyond the tokens");
    }
  }

  std::variant<std::vector<Array<const std::uint16_t, 1>>, std::vector<Array<const std::uint32_t, 1>>>
      arrays_;
  std::variant<TokenParts<std::uint16_t>, TokenParts<std::uint32_t>> tokens_{
      TokenParts<std::uint16_t>({})};
};

}  // namespace

NB_MODULE(_native, module) {
  nb::register_exception_translator([](const std::exception_ptr& raised, void*) {
    try {
      std::rethrow_exception(raised);
    } catch (const std::system_error& error) {
      errno = error.code().value();
      PyErr_SetFromErrno(PyExc_OSError);
    }
  });

  module.attr("UNICODE_VERSION") = kUnicodeVersion;
  module.attr("SIMD") = kernels().name;
  module.def("split", &split, nb::arg("document"), nb::arg("pattern"), nb::arg("digits_apart"));
  module.def("next_cut", &find_cut, nb::arg("descriptor"), nb::arg("at"), nb::arg("pattern"),
             nb::arg("digits_apart"), nb::arg("specials"));

  nb::class_<SpecialTokens>(module, "SpecialTokens")
      .def("__init__", &construct_specials, nb::arg("texts"), nb::arg("ids"))
      .def(
          "find",
          [](const SpecialTokens& specials, nb::handle document) {
            const std::string_view text = view_of(document);
            const SpecialTokens::Match match = specials.find(text, 0);
            return match.token == nullptr ? -1 : static_cast<std::int64_t>(match.at);
          },
          nb::arg("document"));

  nb::class_<PieceCounter>(module, "PieceCounter")
      .def(
          "__init__",
          [](PieceCounter* place, const std::string& pattern, bool digits_apart) {
            new (place) PieceCounter(rule_named(pattern, digits_apart));
          },
          nb::arg("pattern"), nb::arg("digits_apart"))
      .def("count", &count_document, nb::arg("document"), nb::arg("specials"))
      .def("count_pieces", &count_pieces, nb::arg("document"), nb::arg("ends"))
      .def("count_range", &count_range, nb::arg("descriptor"), nb::arg("begin"), nb::arg("end"),
           nb::arg("specials"), nb::call_guard<nb::gil_scoped_release>())
      .def("absorb", &PieceCounter::absorb, nb::arg("other"),
           nb::call_guard<nb::gil_scoped_release>())
      .def("clear", &PieceCounter::clear)
      .def("prune", &PieceCounter::prune, nb::arg("least"),
           nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("n_distinct", &PieceCounter::n_distinct);

  nb::class_<CountingStream>(module, "CountingStream")
      .def(nb::init<PieceCounter&, const SpecialTokens&>(), nb::arg("counter"), nb::arg("specials"),
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def("feed", &CountingStream::feed, nb::arg("chunk"))
      .def("finish", &CountingStream::finish);

  nb::class_<MergeLearner>(module, "MergeLearner")
      .def("__init__", &construct_learner, nb::arg("counter"), nb::arg("ties"),
           nb::arg("min_frequency"), nb::arg("max_token_length"))
      .def("learn", &MergeLearner::learn, nb::arg("n_merges"),
           nb::call_guard<nb::gil_scoped_release>())
      .def("merges_from", &merges_from, nb::arg("first"));

  nb::class_<Codec>(module, "Codec")
      .def(nb::init<const std::vector<nb::bytes>&, const std::vector<std::uint32_t>&,
                    const std::vector<Rule>&, const std::string&, bool>(),
           nb::arg("tokens"), nb::arg("byte_ids"), nb::arg("rules"), nb::arg("pattern"),
           nb::arg("digits_apart"))
      .def("encode", &Codec::encode, nb::arg("document"))
      .def("encode_with_specials", &Codec::encode_with_specials, nb::arg("document"),
           nb::arg("specials"))
      .def("encode_pieces", &Codec::encode_pieces, nb::arg("document"), nb::arg("ends"))
      .def("encode_range", &Codec::encode_range, nb::arg("descriptor"), nb::arg("begin"),
           nb::arg("end"), nb::arg("specials"))
      .def("encode_documents", &Codec::encode_documents, nb::arg("documents"),
           nb::arg("end_of_text").none(), nb::arg("n_threads"))
      .def("decode", &Codec::decode, nb::arg("ids"));

  nb::class_<EncodingStream>(module, "EncodingStream")
      .def(nb::init<Codec&, const SpecialTokens&>(), nb::arg("codec"), nb::arg("specials"),
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def("feed", &EncodingStream::feed, nb::arg("chunk"))
      .def("finish", &EncodingStream::finish);

  module.def("turn_into_slope", &turn_into_slope, nb::arg("logits"), nb::arg("targets"),
             nb::arg("n_vocab"), nb::arg("scale"));
  module.def("fill_gelu", &fill_gelu, nb::arg("x"), nb::arg("value"), nb::arg("slope").none());
  module.def("fill_swiglu", &fill_swiglu, nb::arg("gate"), nb::arg("up"), nb::arg("value"),
             nb::arg("gate_slope").none(), nb::arg("up_slope").none());

  module.def("permute", &permute_numbers, nb::arg("numbers").noconvert(), nb::arg("n"),
             nb::arg("key"));
  module.def("pack", &pack_documents, nb::arg("document_starts"), nb::arg("context"));

  nb::class_<TokenRows>(module, "TokenRows")
      .def(nb::init<const std::vector<nb::object>&>(), nb::arg("parts"))
      .def("copy", &TokenRows::copy, nb::arg("starts"), nb::arg("rows"))
      .def("copy_packed", &TokenRows::copy_packed, nb::arg("numbers"), nb::arg("starts"),
           nb::arg("lengths"), nb::arg("row_offsets"), nb::arg("end_of_text"), nb::arg("rows"),
           nb::arg("positions").noconvert(), nb::arg("documents").noconvert(),
           nb::arg("n_filled").noconvert());
}

}  // namespace modelwright
