"""Text in the script that the rules are written in: simplified characters, narrow digits and letters."""

from __future__ import annotations

# The characters of the rules that have another traditional form, each above the simplified one.
_TRADITIONAL = (
    "萬個兩為麼虧買億倉餘儲兒關係衝沖淨準幾劃別辦務動勁單佔發號後嗎圖國圓塊備夠頭獎學將屬歲幣帶幹慶張強當"
    "總願戶擔報掙損換擱攢無時來標棟樣樓歐畢沒漲滿現盤碼禮離種穩筆緊約級紙經結給續繳罰騰節慮蝕裝見規計認許"
    "試說讀誰謂財賬帳貪購貴貸費資賭賠賺轉較輸達過還這進違適裡裏週鐘錢銷鎖鎊門閉間閒險隨難預額風齡點開體"
)
_SIMPLIFIED = (
    "万个两为么亏买亿仓余储儿关系冲冲净准几划别办务动劲单占发号后吗图国元块备够头奖学将属岁币带干庆张强当"
    "总愿户担报挣损换搁攒无时来标栋样楼欧毕没涨满现盘码礼离种稳笔紧约级纸经结给续缴罚腾节虑蚀装见规计认许"
    "试说读谁谓财账账贪购贵贷费资赌赔赚转较输达过还这进违适里里周钟钱销锁镑门闭间闲险随难预额风龄点开体"
)
_WIDE = [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), *map(ord, "\uff04\uff05\uff0d\uff0e")]
_PLAIN = str.maketrans(_TRADITIONAL, _SIMPLIFIED) | {wide: wide - 0xFEE0 for wide in _WIDE}


def plain(text: str) -> str:
    """The text as the rules read it, each character in its old place."""
    return text.translate(_PLAIN)
