-- Wireshark dissector of the streamhop protocol, version 1. See ../SPEC.md and ../../docs/wireshark.md.
--
-- A second decoder, written from the specification alone: it shares no code with streamhop_protocol, so that each can
-- be held against the other. It runs on Lua 5.2 (Wireshark up to 4.2) and on Lua 5.4, hence neither integer operators
-- nor bit libraries. What it shows of a frame must be the same each time Wireshark dissects the packet again: what
-- depends on earlier packets is found out on the first pass and remembered.

local PORT = 4711
local PREFIX_BYTES = 12
local MAGIC = "\245HOP\r\n"
local PREAMBLE_BYTES = 8
local KIB, MIB = 1024, 1024 * 1024
local DATA_PAYLOAD_MAX, MESSAGE_PAYLOAD_MAX, HANDSHAKE_HEADER_MAX = MIB, 8 * MIB, KIB
local NESTING_MAX, ITEMS_MAX = 16, 131072
local WINDOW_BYTES, FRAME_COST_MIN, CHUNK_MAX, META_MAX = 4 * MIB, KIB, MIB, 60 * KIB
local REORDER_MAX = WINDOW_BYTES / FRAME_COST_MIN + 2 -- frames under way within the window, with OPEN and END
local SHOWN_BYTES_MAX = 64 * KIB -- of one map or list as JSON; the bytes themselves are there all the same
local ENTRIES_SHOWN_MAX = 256

-- Fields of frames --------------------------------------------------------------------------------------------------
-- { name, type, low, high, optional }: bounds are those of the value (uint), of its bytes (text, bytes), or of the
-- entries (texts, pairs).

local NAME, CODE = 255, 64
local PROSE = 4096
local MOVE, EPOCH = { "move", "bytes", 16, 16 }, { "epoch", "uint", 1, 4294967295 }
local ATTRIBUTES = { "attributes", "map", optional = true }
local IMAGE_DIGEST = { "image_digest", "bytes", 32, 32 }
local CODE_FIELD, REASON = { "code", "text", 1, CODE }, { "reason", "text", 0, PROSE }
local FIX = { "fix", "text", 0, PROSE }

local TYPES = {
    [0x01] = { "HELLO", { { "name", "text", 1, NAME }, { "version_min", "uint", 1, 65535 },
        { "version_max", "uint", 1, 65535 }, { "connections", "uint", 1, 15 }, { "streams_max", "uint", 1, 256 } } },
    [0x02] = { "WELCOME", { { "name", "text", 1, NAME }, { "version", "uint", 1, 65535 },
        { "session", "bytes", 16, 16 }, { "token", "bytes", 32, 32 }, { "streams_max", "uint", 1, 256 } } },
    [0x03] = { "JOIN", { { "session", "bytes", 16, 16 }, { "token", "bytes", 32, 32 } } },
    [0x04] = { "JOINED", {} },
    [0x05] = { "PING", { { "number", "uint", 0 } } },
    [0x06] = { "PONG", { { "number", "uint", 0 } } },
    [0x07] = { "BYE", {} },
    [0x08] = { "ERROR", { CODE_FIELD, REASON } },
    [0x10] = { "OPEN", { { "kind", "text", 0, CODE }, ATTRIBUTES } },
    [0x11] = { "DATA", { { "seq", "uint", 1, 2 ^ 48 - 1 }, { "codec", "uint", 0, 255, optional = true },
        { "raw_bytes", "uint", 0, CHUNK_MAX, optional = true }, { "meta", "any", optional = true } } },
    [0x12] = { "END", { { "seq", "uint", 1, 2 ^ 48 - 1 }, ATTRIBUTES } },
    [0x13] = { "CREDIT", { { "size_bytes", "uint", 1, WINDOW_BYTES } } },
    [0x14] = { "DONE", { ATTRIBUTES } },
    [0x15] = { "RESET", { CODE_FIELD, REASON } },
    [0x20] = { "OFFER", { MOVE, EPOCH, { "manifest", "map" }, ATTRIBUTES } },
    [0x21] = { "ACCEPT", { MOVE, EPOCH, { "lacks", "texts", NAME, 4096 }, { "reused", "texts", NAME, 4096 },
        ATTRIBUTES } },
    [0x22] = { "REFUSE", { MOVE, EPOCH, CODE_FIELD, REASON, FIX, { "others", "pairs", PROSE, 32, optional = true },
        ATTRIBUTES } },
    [0x23] = { "READY", { MOVE, EPOCH } },
    [0x24] = { "PREPARE", { MOVE, EPOCH, IMAGE_DIGEST, ATTRIBUTES } },
    [0x25] = { "PREPARED", { MOVE, EPOCH, IMAGE_DIGEST, ATTRIBUTES } },
    [0x26] = { "FAILED", { MOVE, EPOCH, CODE_FIELD, REASON, FIX } },
    [0x27] = { "RELEASE", { MOVE, EPOCH, IMAGE_DIGEST } },
    [0x28] = { "STARTED", { MOVE, EPOCH, ATTRIBUTES } },
    [0x29] = { "FINISH", { MOVE, EPOCH } },
    [0x2A] = { "ABORT", { MOVE, EPOCH, CODE_FIELD, REASON } },
    [0x2B] = { "ABORTED", { MOVE, EPOCH } },
    [0x2C] = { "QUERY", { MOVE } },
    [0x2D] = { "STATE", { MOVE, EPOCH, { "state", "text", 1, CODE }, ATTRIBUTES } },
}
local HELLO, WELCOME, JOIN, JOINED, ERROR = 0x01, 0x02, 0x03, 0x04, 0x08
local OPEN, DATA, END, CREDIT, DONE, RESET = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
local KINDS = { layer = true, tree = true, memory = true, final = true, held = true }
local CODECS = { [0] = "none", [1] = "lz4", [2] = "zstd" }

local function is_message(number) return number >= 0x20 and number <= 0x2D end
local function has_stream(number) return number >= OPEN and number <= RESET end

local function set(...)
    local found = {}
    for _, each in ipairs({ ... }) do found[each] = true end
    return found
end

-- Types that may arrive, by the phase of the receiving side. Messages may arrive in "control".
local ALLOWED = {
    ["await first"] = set(HELLO, JOIN),
    ["decide"] = set(),
    ["await welcome"] = set(WELCOME, ERROR),
    ["await joined"] = set(JOINED, ERROR),
    ["control"] = set(0x05, 0x06, 0x07, ERROR, CREDIT, DONE, RESET),
    ["payload"] = set(OPEN, DATA, END),
}

-- What can be filtered -----------------------------------------------------------------------------------------------

local streamhop = Proto("streamhop", "streamhop, moves of running containers")
local names = {}
for number, row in pairs(TYPES) do names[number] = row[1] end

local F = {
    preamble = ProtoField.bytes("streamhop.preamble", "Preamble"),
    framing = ProtoField.uint16("streamhop.framing_version", "Version of the framing"),
    payload_len = ProtoField.uint32("streamhop.payload_len", "Bytes of the payload"),
    header_len = ProtoField.uint16("streamhop.header_len", "Bytes of the header"),
    type = ProtoField.uint8("streamhop.type", "Type", base.HEX, names),
    type_name = ProtoField.string("streamhop.type_name", "Name of the type"),
    flags = ProtoField.uint8("streamhop.flags", "Flags", base.HEX),
    required = ProtoField.bool("streamhop.flags.required", "Required", 8, nil, 0x01),
    more = ProtoField.bool("streamhop.flags.more", "More fragments", 8, nil, 0x02),
    stream = ProtoField.uint32("streamhop.stream", "Stream"),
    header = ProtoField.bytes("streamhop.header", "Header"),
    payload = ProtoField.bytes("streamhop.payload", "Payload"),
    phase = ProtoField.string("streamhop.phase", "Phase of the receiver"),
    by = ProtoField.string("streamhop.by", "Sent by"),
    skipped = ProtoField.bool("streamhop.skipped", "Unknown and not required: skipped"),
    violation = ProtoField.string("streamhop.violation", "Breaks the protocol with"),
    discarded = ProtoField.bytes("streamhop.discarded", "Nobody reads this: the connection was broken before"),
    entry = ProtoField.string("streamhop.entry", "Entry"),
}
-- The fields of frames, as in the tables of the specification.
local V = {
    name = ProtoField.string("streamhop.name", "Name"),
    version_min = ProtoField.uint16("streamhop.version_min", "Lowest version"),
    version_max = ProtoField.uint16("streamhop.version_max", "Highest version"),
    connections = ProtoField.uint8("streamhop.connections", "Payload connections"),
    streams_max = ProtoField.uint16("streamhop.streams_max", "Streams that the peer may have open"),
    version = ProtoField.uint16("streamhop.version", "Version"),
    session = ProtoField.bytes("streamhop.session", "Session"),
    token = ProtoField.bytes("streamhop.token", "Token"),
    number = ProtoField.uint64("streamhop.number", "Number"),
    code = ProtoField.string("streamhop.code", "Code"),
    reason = ProtoField.string("streamhop.reason", "Reason"),
    fix = ProtoField.string("streamhop.fix", "Fix"),
    kind = ProtoField.string("streamhop.kind", "Kind"),
    seq = ProtoField.uint64("streamhop.seq", "Number of the frame"),
    codec = ProtoField.uint8("streamhop.codec", "Codec", base.DEC, CODECS),
    raw_bytes = ProtoField.uint32("streamhop.raw_bytes", "Bytes after decompression"),
    meta = ProtoField.string("streamhop.meta", "Meta"),
    attributes = ProtoField.string("streamhop.attributes", "Attributes"),
    size_bytes = ProtoField.uint32("streamhop.size_bytes", "Credit in bytes"),
    move = ProtoField.bytes("streamhop.move", "Move"),
    epoch = ProtoField.uint32("streamhop.epoch", "Epoch"),
    manifest = ProtoField.string("streamhop.manifest", "Manifest"),
    lacks = ProtoField.string("streamhop.lacks", "Layers that are lacking"),
    reused = ProtoField.string("streamhop.reused", "Layers that are there"),
    others = ProtoField.string("streamhop.others", "Other reasons"),
    image_digest = ProtoField.bytes("streamhop.image_digest", "Digest of the image"),
    state = ProtoField.string("streamhop.state", "State"),
    -- of pairing alone
    nonce = ProtoField.bytes("streamhop.pair.nonce", "Nonce"),
    addresses = ProtoField.string("streamhop.pair.addresses", "Addresses"),
    certificate = ProtoField.string("streamhop.pair.certificate", "Certificate"),
    proof = ProtoField.bytes("streamhop.pair.proof", "Proof"),
    error = ProtoField.string("streamhop.pair.error", "Error"),
}
local all_fields = {}
for _, each in pairs(F) do all_fields[#all_fields + 1] = each end
for _, each in pairs(V) do all_fields[#all_fields + 1] = each end
streamhop.fields = all_fields

local EXPERTS = {}
for code, text in pairs({
    malformed = "Bytes that are not what they claim to be",
    limit = "A length, count or size over its bound",
    version = "No version in common",
    unexpected = "Well-formed, but not allowed now",
    flow = "More than the credit that was given",
}) do
    EXPERTS[code] = ProtoExpert.new("streamhop.violation." .. code, text, expert.group.PROTOCOL,
        expert.severity.ERROR)
end
streamhop.experts = EXPERTS

-- msgpack -------------------------------------------------------------------------------------------------------------
-- A value is { t = type, at = offset, len = bytes, ... }: `n` for an int or float, `big` an int of 64 bits as text,
-- `s` the bytes of a str or bin, `items` of an array, `pairs` of a map: lists of { key, value }.

local function violate(code, text) error({ code = code, text = text }, 0) end

-- True if `s` is UTF-8 as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
local function is_utf8(s)
    local at, size = 1, #s
    while at <= size do
        local first = s:byte(at)
        local more, low, high = 0, 0x80, 0xBF
        if first >= 0x80 then
            if first >= 0xC2 and first <= 0xDF then more = 1
            elseif first >= 0xE0 and first <= 0xEF then
                more = 2
                if first == 0xE0 then low = 0xA0 elseif first == 0xED then high = 0x9F end
            elseif first >= 0xF0 and first <= 0xF4 then
                more = 3
                if first == 0xF0 then low = 0x90 elseif first == 0xF4 then high = 0x8F end
            else return false end
            for i = 1, more do
                local byte = s:byte(at + i)
                if not byte or byte < low or byte > high then return false end
                low, high = 0x80, 0xBF
            end
        end
        at = at + 1 + more
    end
    return true
end

local Reader = {}
Reader.__index = Reader

function Reader:take(size)
    local at = self.at
    if size > self.stop - at then violate("malformed", "msgpack ends in the middle of a value") end
    self.at = at + size
    return at
end

function Reader:uint(size) return self.tvb(self:take(size), size):uint() end

local INT_BYTES = { [0xCC] = 1, [0xCD] = 2, [0xCE] = 4, [0xD0] = 1, [0xD1] = 2, [0xD2] = 4 }

function Reader:integer(byte)
    local size = INT_BYTES[byte]
    if byte == 0xCF or byte == 0xD3 then
        local range = self.tvb(self:take(8), 8)
        local big = byte == 0xCF and range:uint64() or range:int64()
        return { t = "int", n = big:tonumber(), big = tostring(big) }
    end
    local range = self.tvb(self:take(size), size)
    return { t = "int", n = byte >= 0xD0 and range:int() or range:uint() }
end

function Reader:bytes(kind, size)
    local at = self:take(size)
    local s = size == 0 and "" or self.tvb:raw(at, size)
    if kind == "str" and not is_utf8(s) then violate("malformed", "a string is not UTF-8") end
    return { t = kind, s = s, body = at, size = size }
end

function Reader:count(items, bytes_each)
    -- Each takes one byte or more: what cannot be there is not counted, nor gets a table.
    if items * bytes_each > self.stop - self.at then violate("malformed", "msgpack ends in the middle of a value") end
    self.items = self.items + items
    if self.items > ITEMS_MAX then violate("limit", "more than " .. ITEMS_MAX .. " items") end
end

function Reader:array(size, depth)
    self:count(size, 1)
    local items = {}
    for i = 1, size do items[i] = self:value(depth + 1) end
    return { t = "array", items = items }
end

function Reader:map(size, depth)
    self:count(size, 2)
    local found, seen = {}, {}
    for i = 1, size do
        local key = self:value(depth + 1)
        if key.t ~= "str" then violate("malformed", "a map key is no string") end
        if seen[key.s] then violate("malformed", "a map key occurs twice") end
        seen[key.s] = true
        found[i] = { key, self:value(depth + 1) }
    end
    return { t = "map", pairs = found }
end

-- `depth`: how many arrays and maps are around the value.
function Reader:value(depth)
    local at = self.at
    local byte = self:uint(1)
    local value
    local is_container = (byte >= 0x80 and byte <= 0x9F) or (byte >= 0xDC and byte <= 0xDF)
    if is_container and depth >= NESTING_MAX then violate("limit", "nested deeper than " .. NESTING_MAX) end
    if byte <= 0x7F then value = { t = "int", n = byte }
    elseif byte <= 0x8F then value = self:map(byte - 0x80, depth)
    elseif byte <= 0x9F then value = self:array(byte - 0x90, depth)
    elseif byte <= 0xBF then value = self:bytes("str", byte - 0xA0)
    elseif byte == 0xC0 then value = { t = "nil" }
    elseif byte == 0xC2 or byte == 0xC3 then value = { t = "bool", b = byte == 0xC3 }
    elseif byte == 0xC4 then value = self:bytes("bin", self:uint(1))
    elseif byte == 0xC5 then value = self:bytes("bin", self:uint(2))
    elseif byte == 0xC6 then value = self:bytes("bin", self:uint(4))
    elseif byte == 0xCA then value = { t = "float", n = self.tvb(self:take(4), 4):float() }
    elseif byte == 0xCB then value = { t = "float", n = self.tvb(self:take(8), 8):float() }
    elseif byte >= 0xCC and byte <= 0xD3 then value = self:integer(byte)
    elseif byte == 0xD9 then value = self:bytes("str", self:uint(1))
    elseif byte == 0xDA then value = self:bytes("str", self:uint(2))
    elseif byte == 0xDB then value = self:bytes("str", self:uint(4))
    elseif byte == 0xDC then value = self:array(self:uint(2), depth)
    elseif byte == 0xDD then value = self:array(self:uint(4), depth)
    elseif byte == 0xDE then value = self:map(self:uint(2), depth)
    elseif byte == 0xDF then value = self:map(self:uint(4), depth)
    elseif byte >= 0xE0 then value = { t = "int", n = byte - 256 }
    elseif byte == 0xC1 then violate("malformed", "0xC1 begins no msgpack value")
    else violate("malformed", "a msgpack extension type") end
    value.at, value.len = at, self.at - at
    return value
end

-- The one map that fills `size` bytes at `at`; an empty one if there are none and `may_be_empty`.
local function read_map(tvb, at, size, may_be_empty)
    if size == 0 and may_be_empty then return { t = "map", pairs = {}, at = at, len = 0 } end
    local reader = setmetatable({ tvb = tvb, at = at, stop = at + size, items = 0 }, Reader)
    local value = reader:value(0)
    if reader.at ~= reader.stop then violate("malformed", "bytes after the msgpack value") end
    if value.t ~= "map" then violate("malformed", "a " .. value.t .. ", not a map") end
    return value
end

-- Values as people and scripts read them ---------------------------------------------------------------------------

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quoted(s)
    return '"' .. s:gsub('[%c"\\]', function(c)
        return ESCAPES[c] or string.format("\\u%04x", c:byte())
    end) .. '"'
end

local function hexed(s)
    return (s:gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

-- Writes `value` as JSON into the list `out`, at most about SHOWN_BYTES_MAX bytes; bytes are {"hex": "..."}.
local function write_json(value, out)
    if out.size > SHOWN_BYTES_MAX then
        out.cut = true
        return
    end
    local function put(text)
        out[#out + 1] = text
        out.size = out.size + #text
    end
    local t = value.t
    if t == "int" then put(value.big or string.format("%d", value.n))
    elseif t == "float" then put(string.format("%.17g", value.n))
    elseif t == "bool" then put(tostring(value.b))
    elseif t == "nil" then put("null")
    elseif t == "str" then put(quoted(value.s:sub(1, SHOWN_BYTES_MAX)))
    elseif t == "bin" then put('{"hex": "' .. hexed(value.s:sub(1, SHOWN_BYTES_MAX / 2)) .. '"}')
    elseif t == "array" then
        put("[")
        for i, item in ipairs(value.items) do
            if out.cut then break end
            if i > 1 then put(", ") end
            write_json(item, out)
        end
        put("]")
    else
        put("{")
        for i, pair in ipairs(value.pairs) do
            if out.cut then break end
            put((i > 1 and ", " or "") .. quoted(pair[1].s:sub(1, SHOWN_BYTES_MAX)) .. ": ")
            write_json(pair[2], out)
        end
        put("}")
    end
end

local function json(value)
    local out = { size = 0, cut = false }
    write_json(value, out)
    return table.concat(out) .. (out.cut and " (cut)" or "")
end

-- What of a peer's text can stand in a column: printable ASCII, not much of it.
local function plain(s)
    local cut = s:sub(1, 64):gsub("[^\32-\126]", "?")
    return cut
end

-- Checks of fields ----------------------------------------------------------------------------------------------------

local function refuse_non_finite(value)
    if value.t == "float" then
        if value.n ~= value.n or value.n == math.huge or value.n == -math.huge then
            violate("malformed", "a number that is not finite")
        end
    elseif value.t == "array" then
        for _, item in ipairs(value.items) do refuse_non_finite(item) end
    elseif value.t == "map" then
        for _, pair in ipairs(value.pairs) do refuse_non_finite(pair[2]) end
    end
end

local function check_entries(what, value, entries_max, check)
    if value.t ~= "array" then violate("malformed", what .. " is no list") end
    if #value.items > entries_max then violate("limit", what .. " has too many entries") end
    for _, item in ipairs(value.items) do check(item) end
end

local CHECKS = {}

function CHECKS.uint(what, value, low, high)
    if value.t ~= "int" then violate("malformed", what .. " is no integer") end
    if value.n < low or (high and value.n > high) then violate("limit", what .. " is out of bounds") end
end

function CHECKS.text(what, value, low, high)
    if value.t ~= "str" then violate("malformed", what .. " is no string") end
    if value.size > high then violate("limit", what .. " is longer than " .. high .. " bytes") end
    if value.size < low then violate("malformed", what .. " is empty") end
end

function CHECKS.bytes(what, value, low)
    if value.t ~= "bin" then violate("malformed", what .. " is no bytes") end
    if value.size ~= low then violate("malformed", what .. " has not " .. low .. " bytes") end
end

function CHECKS.map(what, value)
    if value.t ~= "map" then violate("malformed", what .. " is no map") end
    refuse_non_finite(value)
end

function CHECKS.any(what, value)
    refuse_non_finite(value)
    if value.len > META_MAX then violate("limit", what .. " is longer than " .. META_MAX .. " bytes") end
end

function CHECKS.texts(what, value, size_max, entries_max)
    check_entries(what, value, entries_max, function(item) CHECKS.text(what, item, 0, size_max) end)
end

function CHECKS.pairs(what, value, size_max, entries_max)
    check_entries(what, value, entries_max, function(pair)
        if pair.t ~= "array" or #pair.items ~= 2 then violate("malformed", "an entry of " .. what .. " is no pair") end
        CHECKS.texts(what, pair, size_max, 2)
    end)
end

-- Fields of the map by name, checked; those that are absent are missing, as is nil where a field may be absent.
local function check_fields(map, specs)
    local by_name, found = {}, {}
    for _, pair in ipairs(map.pairs) do by_name[pair[1].s] = pair[2] end
    for _, spec in ipairs(specs) do
        local name, kind = spec[1], spec[2]
        local value = by_name[name]
        if value and value.t == "nil" and spec.optional and kind ~= "map" then value = nil
        elseif value then CHECKS[kind](name, value, spec[3], spec[4])
        elseif not spec.optional then violate("malformed", name .. " is missing") end
        found[name] = value
    end
    return found
end

local function show_value(tree, tvb, name, value)
    local field, t = V[name], value.t
    if t == "str" and value.size > 0 then
        tree:add_packet_field(field, tvb(value.body, value.size), ENC_UTF_8)
    elseif t == "str" then tree:add(field, tvb(value.at, value.len), "")
    elseif t == "bin" and value.size > 0 then tree:add(field, tvb(value.body, value.size))
    elseif t == "int" and value.big and name == "number" then tree:add(field, tvb(value.at + 1, 8))
    elseif t == "int" and (name == "seq" or name == "number") then
        tree:add(field, tvb(value.at, value.len), UInt64(value.n % 4294967296, math.floor(value.n / 4294967296)))
    elseif t == "int" then tree:add(field, tvb(value.at, value.len), value.n)
    else
        local item = tree:add(field, tvb(value.at, value.len), json(value))
        local entries = value.pairs or value.items or {}
        for i = 1, math.min(#entries, ENTRIES_SHOWN_MAX) do
            local pair = value.pairs and entries[i]
            local entry = pair and pair[2] or entries[i]
            item:add(F.entry, tvb(entry.at, entry.len), (pair and quoted(pair[1].s) .. ": " or "") .. json(entry))
        end
    end
end

-- What is known of connections and sessions, from the first pass -----------------------------------------------------

local conversations, sessions

-- Forget everything: another capture begins, or this one is dissected anew.
function streamhop.init()
    conversations, sessions = {}, {}
end

-- Both directions between two ends, whichever a packet goes. Wireshark's own number of a TCP connection cannot be asked
-- for: on a first pass without a tree there are no fields.
local function ends_of(pinfo)
    local source, target = tostring(pinfo.src) .. " " .. pinfo.src_port, tostring(pinfo.dst) .. " " .. pinfo.dst_port
    if source < target then return source .. " " .. target end
    return target .. " " .. source
end

local function sender_of(pinfo) return tostring(pinfo.src) .. " " .. pinfo.src_port end

-- The connection that a packet belongs to. Ends that have been used before begin another with a preamble.
local function conversation_of(pinfo, begins)
    local ends = ends_of(pinfo)
    local all = conversations[ends]
    if not all then
        all = {}
        conversations[ends] = all
    end
    local at = #all
    while at > 1 and all[at].from > pinfo.number do at = at - 1 end
    local found = all[at]
    local side = found and found.sides[sender_of(pinfo)]
    if not pinfo.visited and (not found or (begins and side and side.begun)) then
        -- kind: "control" or "payload", once HELLO or JOIN has come; answered: the acceptor has let it in;
        -- sides: by address; early, found: see standing() and remembered().
        found = { from = pinfo.number, sides = {}, answered = false, early = {}, found = {} }
        all[#all + 1] = found
    end
    return found
end

-- Who sends a packet: begun: its preamble has come; dead: it has broken the connection, and nothing counts any more.
local function side_of(conversation, pinfo)
    local key = sender_of(pinfo)
    local side = conversation.sides[key]
    if not side then
        side = { begun = false }
        conversation.sides[key] = side
    end
    return side
end

local function sent_by_dialer(conversation, side) return conversation.dialer == side end

-- The phase of the side that a frame arrives at.
local function phase_now(conversation, side)
    if not conversation.kind then return "await first" end
    if sent_by_dialer(conversation, side) then
        return conversation.answered and conversation.kind or "decide"
    end
    if conversation.answered then return conversation.kind end
    return conversation.kind == "control" and "await welcome" or "await joined"
end

local function session_of(id)
    local found = sessions[id]
    if not found then
        -- joined: payload connections so far, of `connections`; max: streams that each may have open; open: and has
        found = { streams = {}, joined = 0, max = {}, open = { dialer = 0, acceptor = 0 } }
        sessions[id] = found
    end
    return found
end

local function welcome(conversation, fields)
    local hello = conversation.hello
    if fields.version.n < hello.low or fields.version.n > hello.high then
        violate("version", "a version that was not on offer")
    end
    local session = session_of(fields.session.s)
    session.connections = hello.connections
    session.max = { dialer = fields.streams_max.n, acceptor = hello.streams_max }
    conversation.session = session
    conversation.answered = true
end

-- First pass: what a whole frame of the handshake changes.
local function advance(conversation, side, number, fields)
    if number == HELLO or number == JOIN then
        conversation.kind = number == HELLO and "control" or "payload"
        conversation.dialer = side
    end
    if number == HELLO then
        conversation.hello = { low = fields.version_min.n, high = fields.version_max.n,
            connections = fields.connections.n, streams_max = fields.streams_max.n }
        if fields.version_min.n > fields.version_max.n then violate("malformed", "versions the wrong way round") end
    elseif number == JOIN then conversation.session = session_of(fields.session.s)
    elseif number == WELCOME then welcome(conversation, fields)
    elseif number == JOINED then
        conversation.answered = true
        conversation.session.joined = conversation.session.joined + 1
    end
end

-- Streams: what only all connections of a session together tell ------------------------------------------------------

-- The stream, begun by whichever of its frames came first; nil if `by` would have had to begin it and did not.
local function stream_of(session, id, by, begins)
    local found = session.streams[id]
    if not found and begins then
        session.open[by] = session.open[by] + 1
        if session.open[by] > session.max[by] then violate("limit", "more streams open than allowed") end
        -- next: all numbers below have come; seen: the frames above that have; credit: what may still be sent;
        -- last: the number of END; chunk: the one that is being put together; over: DONE or RESET has answered
        found = { next = 0, seen = {}, credit = WINDOW_BYTES }
        session.streams[id] = found
    end
    return found
end

local function close_stream(session, id, owner, how)
    session.streams[id] = { over = how }
    session.open[owner] = session.open[owner] - 1
end

local function take_fragment(stream, frame)
    if (stream.chunk == nil) ~= (frame.codec ~= nil) then
        violate("malformed", "a fragment that begins no chunk, or one within another")
    end
    local chunk = stream.chunk or { codec = frame.codec, raw_bytes = frame.raw_bytes, bytes = 0 }
    chunk.bytes = chunk.bytes + frame.payload_len
    if frame.more and chunk.bytes >= chunk.raw_bytes then violate("limit", "a chunk that goes on and on") end
    stream.chunk = frame.more and chunk or nil
    if frame.more then return end
    if chunk.codec == 0 and chunk.bytes ~= chunk.raw_bytes or chunk.codec ~= 0 and chunk.bytes >= chunk.raw_bytes then
        violate("limit", "a chunk of " .. chunk.raw_bytes .. " bytes with " .. chunk.bytes .. " on the wire")
    end
end

local function count_frame(stream, seq, frame)
    if seq < stream.next or stream.seen[seq] then violate("unexpected", "frame " .. seq .. " came twice") end
    if seq >= stream.next + REORDER_MAX then violate("flow", "a frame too far ahead of the one that is due") end
    if stream.last and (frame.type == END or seq > stream.last) then violate("unexpected", "a frame beyond END") end
    if frame.type == END then
        for other in pairs(stream.seen) do
            if other > seq then violate("unexpected", "frames beyond END have come") end
        end
        stream.last = seq
    end
    stream.seen[seq] = frame
    while stream.seen[stream.next] do
        local ready = stream.seen[stream.next]
        stream.seen[stream.next] = nil
        stream.next = stream.next + 1
        if ready.type == DATA then take_fragment(stream, ready) end
        if ready.type == END and stream.chunk then violate("malformed", "END in the middle of a chunk") end
    end
end

local function follow_sender(session, by, head, fields)
    local number = head.type
    local stream = stream_of(session, head.stream, by, true)
    if stream.over == "reset" then return end
    if stream.over then violate("unexpected", "a frame of a stream that is over") end
    if number == DATA then
        stream.credit = stream.credit - math.max(FRAME_COST_MIN, head.frame_len)
        if stream.credit < 0 then violate("flow", "more than the credit that was given") end
    end
    count_frame(stream, number == OPEN and 0 or fields.seq.n, { type = number, more = head.more,
        payload_len = head.payload_len, codec = fields.codec and fields.codec.n,
        raw_bytes = fields.raw_bytes and fields.raw_bytes.n })
end

local function follow_answer(session, owner, senders, head, fields)
    local number = head.type
    local stream = stream_of(session, head.stream, owner, number == RESET and senders)
    if not stream then violate("unexpected", names[number] .. " about a stream that never was") end
    if stream.over then return end
    if number == CREDIT then
        stream.credit = stream.credit + fields.size_bytes.n
        if stream.credit > WINDOW_BYTES then violate("flow", "the credit overflows the window") end
    elseif number == DONE then
        if not stream.last or stream.next <= stream.last then violate("unexpected", "DONE before END") end
        close_stream(session, head.stream, owner, "done")
    elseif not senders then close_stream(session, head.stream, owner, "reset")
    end
end

-- First pass: follow the streams of a session all of whose connections were captured.
local function follow_stream(conversation, side, head, fields)
    local session, number = conversation.session, head.type
    if not has_stream(number) or not session or session.joined ~= session.connections then return end
    local by = sent_by_dialer(conversation, side) and "dialer" or "acceptor"
    local owner = head.stream % 2 == 1 and "dialer" or "acceptor"
    if number == OPEN or number == DATA or number == END then follow_sender(session, by, head, fields)
    else follow_answer(session, owner, by == owner, head, fields) end
end

-- Checks of one frame ----------------------------------------------------------------------------------------------

local function payload_max(number)
    if is_message(number) then return MESSAGE_PAYLOAD_MAX end
    if number == DATA or not TYPES[number] then return DATA_PAYLOAD_MAX end
    return 0
end

-- Raises what a receiver finds from the prefix alone: it does not wait for the rest.
local function check_prefix(head, phase)
    local number, known = head.type, TYPES[head.type] ~= nil
    local trusted = phase == "control" or phase == "payload"
    if not known and head.required then violate("unexpected", "an unknown type that is required") end
    if head.payload_len > (trusted and payload_max(number) or 0) then
        violate("limit", "a payload of " .. head.payload_len .. " bytes")
    end
    if head.header_len > HANDSHAKE_HEADER_MAX and not trusted and number ~= ERROR then
        violate("limit", "a header of more than 1 KiB in the handshake")
    end
    if not known then return end
    if head.more and number ~= DATA then violate("malformed", "the flag MORE on what is not DATA") end
    if (head.stream ~= 0) ~= has_stream(number) then violate("malformed", "a stream where none belongs, or none") end
    if not (ALLOWED[phase][number] or (phase == "control" and is_message(number))) then
        violate("unexpected", names[number] .. " may not arrive in phase '" .. phase .. "'")
    end
end

-- Whose stream it is follows from its ID: odd ones are the dialer's.
local function check_direction(conversation, side, head)
    local senders = (head.stream % 2 == 1) == sent_by_dialer(conversation, side)
    local number = head.type
    if (number == OPEN or number == DATA or number == END) and not senders then
        violate("unexpected", "a frame of a stream that is the other side's to open")
    end
    if (number == CREDIT or number == DONE) and senders then
        violate("unexpected", names[number] .. " from the sender of the stream")
    end
end

local function check_chunk(head, fields)
    local codec, raw_bytes = fields.codec and fields.codec.n, fields.raw_bytes and fields.raw_bytes.n
    if (codec == nil) ~= (raw_bytes == nil) then violate("malformed", "codec without raw_bytes, or raw_bytes alone") end
    if codec and not CODECS[codec] then violate("malformed", "an unknown codec") end
    if head.more and head.payload_len == 0 then violate("limit", "a fragment without a byte") end
    if not codec then return end
    -- More is known once its fragments are put in order; what one frame shows need not wait for that.
    if not head.more and codec == 0 and head.payload_len ~= raw_bytes or codec ~= 0 and head.payload_len >= raw_bytes then
        violate("limit", "a chunk of " .. raw_bytes .. " bytes with " .. head.payload_len .. " on the wire")
    end
end

-- Decodes and shows the fields of a whole frame of a known type; raises the first violation.
local function dissect_fields(tvb, tree, head)
    local header_at = head.at + PREFIX_BYTES
    local payload_at = header_at + head.header_len
    local in_payload = is_message(head.type) and head.header_len == 0
    if is_message(head.type) and head.header_len > 0 and head.payload_len > 0 then
        violate("malformed", "both a header and a payload")
    end
    local at, size = header_at, head.header_len
    if in_payload then at, size = payload_at, head.payload_len end
    if is_message(head.type) and size == 0 then violate("malformed", "no fields") end
    local map = read_map(tvb, at, size, true)
    local specs = TYPES[head.type][2]
    local fields = check_fields(map, specs)
    for _, spec in ipairs(specs) do
        local value = fields[spec[1]]
        if value then show_value(tree, tvb, spec[1], value) end
    end
    if head.type == OPEN and not KINDS[fields.kind.s] then violate("malformed", "an unknown kind of stream") end
    return fields
end

-- Showing ------------------------------------------------------------------------------------------------------------

local function summary(head, fields)
    local text = names[head.type] or string.format("type 0x%02x", head.type)
    if head.stream ~= 0 then text = text .. " " .. head.stream end
    for _, name in ipairs({ "name", "kind", "code", "state" }) do
        if fields and fields[name] then text = text .. " " .. plain(fields[name].s) end
    end
    if fields and fields.seq then text = text .. string.format(" #%d", fields.seq.n) end
    return text
end

local function show_violation(tree, range, found)
    tree:add(F.violation, range, found.code):set_generated()
    tree:add_proto_expert_info(EXPERTS[found.code], plain(found.code .. ": " .. found.text))
end

local function show_prefix(tree, tvb, head)
    local at = head.at
    tree:add(F.payload_len, tvb(at, 4))
    tree:add(F.header_len, tvb(at + 4, 2))
    tree:add(F.type, tvb(at + 6, 1))
    if names[head.type] then tree:add(F.type_name, tvb(at + 6, 1), names[head.type]):set_generated() end
    local flags = tree:add(F.flags, tvb(at + 7, 1))
    flags:add(F.required, tvb(at + 7, 1))
    flags:add(F.more, tvb(at + 7, 1))
    tree:add(F.stream, tvb(at + 8, 4))
end

local function read_head(tvb, at)
    local flags = tvb(at + 7, 1):uint()
    local head = {
        at = at,
        payload_len = tvb(at, 4):uint(),
        header_len = tvb(at + 4, 2):uint(),
        type = tvb(at + 6, 1):uint(),
        required = flags % 2 == 1,
        more = math.floor(flags / 2) % 2 == 1,
        stream = tvb(at + 8, 4):uint(),
    }
    head.frame_len = PREFIX_BYTES + head.header_len + head.payload_len
    return head
end

-- A frame's place that is the same on every pass.
local function place(pinfo, tvb, at) return pinfo.number .. " " .. tvb:len() .. " " .. at end

-- The phase in which a frame arrives, and whether it comes after the connection was broken.
local function standing(conversation, side, pinfo, key)
    if not pinfo.visited then
        local phase = phase_now(conversation, side)
        if phase ~= conversation.kind or side.dead then conversation.early[key] = { phase = phase, dead = side.dead } end
        return phase, side.dead
    end
    local early = conversation.early[key]
    if early then return early.phase, early.dead end
    return conversation.kind or "await first", false
end

-- Runs `call` on the first pass and remembers what it raises; later passes raise the same.
local function remembered(conversation, pinfo, key, call)
    if not pinfo.visited then
        local fine, found = pcall(call)
        if not fine then conversation.found[key] = found end
    end
    if conversation.found[key] then error(conversation.found[key], 0) end
end

local function dissect_whole(tvb, pinfo, tree, head, context)
    local conversation, side = context.conversation, context.side
    local header_at = head.at + PREFIX_BYTES
    if head.header_len > 0 then tree:add(F.header, tvb(header_at, head.header_len)) end
    if head.payload_len > 0 then tree:add(F.payload, tvb(header_at + head.header_len, head.payload_len)) end
    if not TYPES[head.type] then
        tree:add(F.skipped, true):set_generated()
        return nil
    end
    local fields = dissect_fields(tvb, tree, head)
    context.fields = fields
    if has_stream(head.type) then check_direction(conversation, side, head) end
    if head.type == DATA then check_chunk(head, fields) end
    remembered(conversation, pinfo, context.key, function()
        advance(conversation, side, head.type, fields)
        follow_stream(conversation, side, head, fields)
    end)
    return fields
end

-- One frame whose prefix is there. Returns how many bytes it took, or nil if so many more are needed.
local function dissect_frame(tvb, pinfo, root, at, conversation, side)
    local head = read_head(tvb, at)
    local key = place(pinfo, tvb, at)
    local phase, dead = standing(conversation, side, pinfo, key)
    local there = tvb:len() - at
    if dead then
        root:add(F.discarded, tvb(at))
        return there
    end
    local fine, found = pcall(check_prefix, head, phase)
    if not fine and type(found) ~= "table" then error(found, 0) end
    local prefix_fine = fine
    if fine and there < head.frame_len then
        pinfo.desegment_offset = at
        pinfo.desegment_len = head.frame_len - there
        return nil
    end
    local size = prefix_fine and head.frame_len or there
    local tree = root:add(streamhop, tvb(at, size))
    show_prefix(tree, tvb, head)
    tree:add(F.phase, phase):set_generated()
    local context = { conversation = conversation, side = side, key = key, fields = nil }
    if fine then
        fine, found = pcall(dissect_whole, tvb, pinfo, tree, head, context)
        if not fine and type(found) ~= "table" then error(found, 0) end
    end
    if conversation.dialer then
        tree:add(F.by, sent_by_dialer(conversation, side) and "dialer" or "acceptor"):set_generated()
    end
    local text = summary(head, context.fields)
    if not fine then
        show_violation(tree, tvb(at, math.min(size, PREFIX_BYTES)), found)
        text = text .. " [" .. found.code .. "]"
        side.dead = side.dead or not prefix_fine
    end
    tree:append_text(": " .. text)
    pinfo.cols.info:append(" " .. text)
    return size
end

-- The preamble. Returns how many bytes it took, or nil if more are needed.
local function dissect_preamble(tvb, pinfo, root, at, side)
    local size = math.min(PREAMBLE_BYTES, tvb:len() - at)
    local seen = tvb:raw(at, size)
    local wrong = seen:sub(1, #MAGIC) ~= MAGIC:sub(1, size)
    if not wrong and size < PREAMBLE_BYTES then
        pinfo.desegment_offset = at
        pinfo.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
        return nil
    end
    side.begun = true
    local tree = root:add(streamhop, tvb(at, size))
    tree:add(F.preamble, tvb(at, size))
    if wrong then
        show_violation(tree, tvb(at, size), { code = "malformed", text = "the peer does not speak this protocol" })
        side.dead = true
        return tvb:len() - at
    end
    tree:add(F.framing, tvb(at + 6, 2))
    tree:append_text(": preamble")
    pinfo.cols.info:append(" preamble")
    if tvb(at + 6, 2):uint() ~= 1 then
        show_violation(tree, tvb(at, size), { code = "version", text = "the peer frames in another way" })
        side.dead = true
        return tvb:len() - at
    end
    return size
end

-- Whether a direction's first bytes are at `at`.
local function at_beginning(tvb, at, side, pinfo)
    local key = place(pinfo, tvb, at)
    if not pinfo.visited and not side.begun then side.first = key end
    return side.first == key
end

function streamhop.dissector(tvb, pinfo, root)
    local begins = tvb:len() >= #MAGIC and tvb:raw(0, #MAGIC) == MAGIC
    local conversation = conversation_of(pinfo, begins)
    local side = side_of(conversation, pinfo)
    pinfo.cols.protocol = "streamhop"
    pinfo.cols.info = ""
    local at = 0
    while at < tvb:len() do
        local taken
        if at_beginning(tvb, at, side, pinfo) then
            taken = dissect_preamble(tvb, pinfo, root, at, side)
        elseif tvb:len() - at < PREFIX_BYTES then
            pinfo.desegment_offset = at
            pinfo.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
        else
            taken = dissect_frame(tvb, pinfo, root, at, conversation, side)
        end
        if not taken then break end
        at = at + taken
    end
    return tvb:len()
end

-- Pairing: a length of four bytes and a map, inside TLS ---------------------------------------------------------------

local pairing = Proto("streamhop_pair", "streamhop, pairing of two hosts")
local PAIRING_MESSAGE_MAX = 16 * KIB
local PAIRING_FIELDS = { nonce = "bin", name = "str", addresses = "array", certificate = "str", proof = "bin",
    error = "str" }

function pairing.dissector(tvb, pinfo, root)
    pinfo.cols.protocol = "streamhop"
    pinfo.cols.info = "pairing"
    local at = 0
    while at < tvb:len() do
        local there = tvb:len() - at
        local size = there >= 4 and tvb(at, 4):uint() or 0
        if there < 4 or (size <= PAIRING_MESSAGE_MAX and there < 4 + size) then
            pinfo.desegment_offset = at
            pinfo.desegment_len = there < 4 and DESEGMENT_ONE_MORE_SEGMENT or 4 + size - there
            break
        end
        local tree = root:add(streamhop, tvb(at, math.min(4 + size, there)))
        tree:append_text(": pairing")
        local fine, found = pcall(function()
            if size > PAIRING_MESSAGE_MAX then violate("limit", "a pairing message of " .. size .. " bytes") end
            for _, pair in ipairs(read_map(tvb, at + 4, size, false).pairs) do
                if PAIRING_FIELDS[pair[1].s] == pair[2].t then show_value(tree, tvb, pair[1].s, pair[2]) end
            end
        end)
        if not fine then
            if type(found) ~= "table" then error(found, 0) end
            show_violation(tree, tvb(at, math.min(4, there)), found)
        end
        at = at + 4 + size
    end
    return tvb:len()
end

-- Where it is found ---------------------------------------------------------------------------------------------------

-- On the port there is TLS or the protocol itself. TLS is left to Wireshark, which then has the connection: it knows a
-- record by its first bytes (RFC 8446, 5.1), and hands back what is inside if it has the keys.
local port = Proto("streamhop_port", "streamhop, in the clear or in TLS")

function port.dissector(tvb, pinfo, root)
    local kind = tvb(0, 1):uint()
    if kind >= 20 and kind <= 23 and (tvb:len() < 2 or tvb(1, 1):uint() == 3) then return 0 end
    pinfo.conversation = streamhop
    return streamhop.dissector(tvb, pinfo, root)
end

local function looks_like_it(tvb, pinfo, root)
    if tvb:len() < PREAMBLE_BYTES or tvb:raw(0, #MAGIC) ~= MAGIC then return false end
    pinfo.conversation = streamhop
    streamhop.dissector(tvb, pinfo, root)
    return true
end

streamhop.prefs.ports = Pref.range("TCP ports", tostring(PORT), "Where daemons listen", 65535)
local listening = ""

local function listen_on(ports)
    for _, name in ipairs({ "tcp.port", "tls.port" }) do
        local dissector = name == "tcp.port" and port or streamhop
        if listening ~= "" then DissectorTable.get(name):remove(listening, dissector) end
        if ports ~= "" then DissectorTable.get(name):add(ports, dissector) end
    end
    listening = ports
end

function streamhop.prefs_changed()
    if tostring(streamhop.prefs.ports) ~= listening then listen_on(tostring(streamhop.prefs.ports)) end
end

listen_on(tostring(PORT))
streamhop:register_heuristic("tcp", looks_like_it)
DissectorTable.get("tls.alpn"):add("streamhop/1", streamhop)
DissectorTable.get("tls.alpn"):add("streamhop-pair/1", pairing)
