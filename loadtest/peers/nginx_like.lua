-- One like per request, checked as ours is: the stack `nginx-lua` of the bench (see nginx_lua.py).
--
-- Loaded once, by nginx's master before it forks (init_by_lua), while the environment still has
-- what the wrapper put there:
--   PEER_LIKE  JSON: key (base64), store ("unix:..."), campaign, candidates (id -> number), origin,
--              limits (ARGV 7 to 13 of like.lua, as strings)
-- A worker then calls post_like() for each request. A worker is one thread, and nothing waits
-- between the filling of one of these buffers and the copying out of it: they are shared.

local bit = require("bit")
local cjson = require("cjson.safe")
local ffi = require("ffi")
local redis = require("nginx.redis")
local decode_base64url = require("ngx.base64").decode_base64url

local ngx, type, sub, byte, char = ngx, type, string.sub, string.byte, string.char
local max, ceil, rshift, band = math.max, math.ceil, bit.rshift, bit.band
local header, var, print = ngx.header, ngx.var, ngx.print
local find, match = string.find, string.match
local read_body, get_body_data = ngx.req.read_body, ngx.req.get_body_data
local decode_json = cjson.decode
local copied, C = ffi.string, ffi.C

-- Of the libcrypto that nginx itself is linked with.
ffi.cdef([[
typedef struct evp_md_st EVP_MD;
typedef struct hmac_ctx_st HMAC_CTX;
const EVP_MD *EVP_sha256(void);
HMAC_CTX *HMAC_CTX_new(void);
int HMAC_Init_ex(HMAC_CTX *context, const void *key, int size, const EVP_MD *md, void *engine);
int HMAC_Update(HMAC_CTX *context, const unsigned char *of, size_t size);
int HMAC_Final(HMAC_CTX *context, unsigned char *digest, unsigned int *size);
unsigned char *SHA256(const unsigned char *of, size_t size, unsigned char *digest);
int CRYPTO_memcmp(const void *a, const void *b, size_t size);
]])

redis.add_commands("fcall")
cjson.decode_invalid_numbers(false)

-- To the store, without a request: as many as there may be clients, so that none is opened anew.
local IDLE_MAX = 1024
local TOKEN_SIZE, SIGNED_SIZE, MAC_SIZE = 39, 23, 16
-- Plain patterns: measured no dearer than ngx.re, as LuaJIT compiles little of what is around them.
local CLICK, CLICK_MIN, CLICK_MAX = "^[A-Za-z0-9_-]+$", 8, 64
local LAST_ENTRY = "%s*([^,]-)%s*$"
local BEFORE_THE_LAST_DOT = "^(.*)%."
local PROBLEM = "application/problem+json; charset=utf-8"
local STATUS = {
  ["malformed"] = 400,
  ["bad-token"] = 401,
  ["wrong-origin"] = 403,
  ["unknown-campaign"] = 404,
  ["unknown-candidate"] = 404,
  ["quota-spent"] = 409,
  ["throttled"] = 429,
}
-- By the outcome that like.lua answers with.
local REFUSED = { [4] = "quota-spent", [6] = "throttled", [11] = "malformed" }
local REPEATED = 3

local settings = assert(cjson.decode(os.getenv("PEER_LIKE")))
local campaign, origin, store = settings.campaign, settings.origin, settings.store
local numbers, packed = settings.candidates, {}
for id, number in pairs(numbers) do
  packed[id] = char(rshift(number, 8), band(number, 255))
end
local per_day, device_interval, device_window,
  near_interval, near_window, far_interval, far_window = unpack(settings.limits)
local problems = {}
for word, status in pairs(STATUS) do
  problems[word] = '{"status":' .. status .. ',"outcome":"' .. word .. '"}'
end

-- Keyed once and begun anew for each use: 0.2 us, where HMAC() fetches and keys for 1.8.
local keyed = C.HMAC_CTX_new()
do
  local key = ngx.decode_base64(settings.key)
  assert(C.HMAC_Init_ex(keyed, key, #key, C.EVP_sha256(), nil) == 1)
end
local digest = ffi.new("unsigned char[32]")

local function hmac(of)
  C.HMAC_Init_ex(keyed, nil, 0, nil, nil)
  C.HMAC_Update(keyed, of, #of)
  C.HMAC_Final(keyed, digest, nil)
end

-- Eight bytes that stand for a device or a network.
local function pseudonym(of)
  hmac(of)
  return copied(digest, 8)
end

-- Six bytes that stand for a click id.
local function click_hash(click)
  C.SHA256(click, #click, digest)
  return copied(digest, 6)
end

-- Device id and when the token was issued; nothing where the MAC is not ours.
local function verified(token)
  local raw = decode_base64url(token)
  if not raw or #raw ~= TOKEN_SIZE then return nil end
  hmac(sub(raw, 1, SIGNED_SIZE))
  if C.CRYPTO_memcmp(digest, sub(raw, SIGNED_SIZE + 1), MAC_SIZE) ~= 0 then return nil end
  local a, b, c, d = byte(raw, 14, 17)
  return sub(raw, 2, 13), ((a * 256 + b) * 256 + c) * 256 + d
end

-- What the proxy in front has seen, and all of it but what follows its last dot.
local function addresses()
  local forwarded_for = var.http_x_forwarded_for
  local address = forwarded_for and match(forwarded_for, LAST_ENTRY) or var.remote_addr
  return address, match(address, BEFORE_THE_LAST_DOT) or ""
end

-- What the journal keeps of a vote, but for its verdict; as pack_vote() of checks.py.
local function pack_vote(device, network, wide, candidate, click, age)
  local a, b, c, d = rshift(age, 24), rshift(age, 16), rshift(age, 8), age
  return device .. network .. wide .. candidate .. click
    .. char(a, band(b, 255), band(c, 255), band(d, 255), 1)
end

local function answer(status, body)
  ngx.status = status
  header["Content-Length"] = #body
  print(body)
end

local function refuse(word, wait_ms)
  header["Content-Type"] = PROBLEM
  if wait_ms and wait_ms > 0 then header["Retry-After"] = max(1, ceil(wait_ms / 1000)) end
  answer(STATUS[word], problems[word])
end

-- The reply of like.lua; nothing where the store failed, which is logged.
local function cast(...)
  local client, why = redis:new()
  local connected
  if client then connected, why = client:connect(store) end
  if not connected then
    ngx.log(ngx.ERR, "no connection to the store: ", why)
    return nil
  end
  local reply
  reply, why = client:fcall("like", 4, ...)
  if not reply then
    -- Not kept: nobody knows what is still to come on this connection.
    ngx.log(ngx.ERR, "the store failed: ", why)
    return nil
  end
  client:set_keepalive(0, IDLE_MAX)
  return reply
end

local function post_like()
  read_body()
  local body = get_body_data()
  local like = body and decode_json(body)
  if type(like) ~= "table" then return refuse("malformed") end
  local token, id, click_id = like.token, like.candidate, like.click
  if type(token) ~= "string" or type(id) ~= "string" or type(click_id) ~= "string"
    or type(like.campaign) ~= "string"
    or #click_id < CLICK_MIN or #click_id > CLICK_MAX or not find(click_id, CLICK)
  then
    return refuse("malformed")
  end
  if like.campaign ~= campaign then return refuse("unknown-campaign") end
  local from = var.http_origin
  if from and from ~= origin then return refuse("wrong-origin") end
  local device_id, issued_at = verified(token)
  if not device_id then return refuse("bad-token") end
  local number = numbers[id]
  if not number then return refuse("unknown-candidate") end

  local now = ngx.time()
  local day = (now - now % 86400) / 86400
  local address, before_the_last_dot = addresses()
  local device, network, wide =
    pseudonym(device_id), pseudonym(address), pseudonym(before_the_last_dot)
  local candidate, click = packed[id], click_hash(click_id)
  local age = max(0, now - issued_at)
  local reply = cast(
    "day:" .. day, "net:" .. day, "tally", "journal",
    device, network, candidate, number, click,
    pack_vote(device, network, wide, candidate, click, age),
    per_day, device_interval, device_window, near_interval, near_window, far_interval, far_window
  )
  if not reply then return ngx.exit(500) end
  local outcome, remaining, wait_ms, likes = reply[1], reply[2], reply[3], reply[4]
  local word = REFUSED[outcome]
  if word then return refuse(word, wait_ms) end
  local repeated = outcome == REPEATED
  answer(
    repeated and 200 or 201,
    '{"outcome":"' .. (repeated and "repeated" or "counted") .. '","candidate":"' .. id
      .. '","likes":' .. likes .. ',"remaining_today":' .. remaining .. "}"
  )
end

return { post_like = post_like }
