"""The hand-written customer messages and support answers of the invented product Rillwatch, by intent and topic.

Each block is read by `parse_topics`. The notation:

    = topic tier tier    a topic starts; the customer tiers that can write about it (none: all three)
    > text               an answer that fits every message of the topic whose slots it needs
    @chat text           a message used only in this channel (email, chat, phone_transcript, app)
    text                 a message used in any channel
    (two spaces) text    continues the line above
    {order}              a slot, filled by the script
    [one|two]            wordings that the script picks from
"""

import re
from dataclasses import dataclass

TIERS = ("free", "plus", "business")
CHANNELS = ("email", "chat", "phone_transcript", "app")


@dataclass(frozen=True)
class Phrasing:
    """One hand-written message, before slots are filled."""

    text: str
    channel: str
    """One of CHANNELS, or "any"."""


@dataclass(frozen=True)
class Topic:
    """What one kind of customer problem looks like, and how support answers it."""

    name: str
    tiers: tuple[str, ...]
    answers: tuple[str, ...]
    phrasings: tuple[Phrasing, ...]


def slots(text: str) -> set[str]:
    """The names of the slots in `text`."""
    return set(re.findall(r"\{(\w+)\}", text))


def parse_topics(block: str) -> tuple[Topic, ...]:
    """The topics of one intent, in the order in which they are written."""
    lines = re.sub(r"\n  +", " ", block.strip()).splitlines()
    topics: list[Topic] = []
    for line in filter(None, lines):
        if line.startswith("= "):
            name, *tiers = line[2:].split()
            topics.append(Topic(name, tuple(tiers) or TIERS, (), ()))
            continue
        last = topics[-1]
        if line.startswith("> "):
            topics[-1] = Topic(last.name, last.tiers, (*last.answers, line[2:]), last.phrasings)
            continue
        channel, text = "any", line
        if line.startswith("@"):
            channel, text = line[1:].split(" ", 1)
            assert channel in CHANNELS, f"unknown channel in {line!r}"
        topics[-1] = Topic(last.name, last.tiers, last.answers, (*last.phrasings, Phrasing(text, channel)))
    return tuple(topics)


DEVICE_OFFLINE = """
= hub_new_wifi
> Hold the hub button for 10 seconds until the light blinks blue. Then open Devices in the app and connect the
  hub to your new Wi-Fi.
> Your hub still looks for the old Wi-Fi. Hold its button for 10 seconds, wait for the blue light, and choose
  the new network in the app.
We [got|bought] a new router on {weekday} and since then the hub can't be reached.
I changed my Wi-Fi password and now Rillwatch says the hub is gone.
My internet company swapped the box in the hallway, everything else came back but your hub did not.
After moving to a different provider the water monitor has been dead to the app for {days} days.
How do I tell the hub about a new network name? It has been offline since we renamed ours.
Switched to fibre. TV works, laptop works, Rillwatch: offline.
@chat new router, hub offline, what do i press
@chat changed wifi pw now hub wont connect anymore
My son set up some mesh thing for the Wi-Fi and ever since then the light on your hub is red.
The hub was fine for {months} months until we changed the router, and now it just sits there with a red light.
= hub_offline
> Please unplug the hub for 30 seconds and plug it in again. If the light is still red after five minutes,
  restart your router too.
> Please take the power out of the hub for 30 seconds. When the light turns green it is online again, and no
  settings are lost.
> Sorry that your hub has been offline for {days} days. Please unplug it for 30 seconds and restart your router,
  then wait five minutes.
My hub has been offline for {days} days and nothing I do brings it back.
The app shows a grey hub with "last seen {days} days ago".
Red light on the front of the box, and the app says it can't find it.
I got a push message at night that the hub lost its connection, and it is still not back.
Is there an outage on your side? My hub shows no connection, but the internet at home is fine.
Nothing in the house has changed, yet since {weekday} the monitor does not report.
I am away on a trip and I see the hub is not online. Can I restart it from here or must a neighbour go in?
Every device in my flat is online except yours.
@chat hub offline again since {weekday}, help
@chat red light on hub. internet is ok. ??
@chat device not reachable, error {code}
Error {code} and no connection to the hub. I tried two times.
We have no view of the water at the office since {weekday} because the hub dropped off.
What does a solid red light mean? The app only says "not connected".
There was a power cut in our street on {weekday}, the hub has not come back since.
I pay for something that should watch my pipes, and it has been asleep for {days} days without telling me.
@phone_transcript the little white box, it has a red light, it used to be green, and my daughter says it's not
  on the internet
@app Hub: disconnected. Retry does nothing.
The hub lost contact right when we had the storm, and I am worried because nobody is at the house.
= sensor_offline
> Please fit two new AAA batteries in the {room} sensor and keep it within 30 metres of the hub. It should be
  back in ten minutes.
> Please put two new AAA batteries in the sensor and press its button once. It must be within 30 metres of the
  hub.
> A sensor goes offline when its batteries are weak or the hub is too far away. Please change the two AAA
  batteries and move it closer.
The [leak sensor|sensor] in the {room} is shown as missing although it lies exactly where it always was.
One of my {count} sensors stopped reporting, the others are fine.
Sensor in the {room} says "no signal".
New batteries are in, the {room} sensor is still grey in the list.
I moved the sensor from the kitchen sink to the {room} and now it has vanished from the app.
How far can the sensors be from the hub? The one in the {room} keeps going silent.
@chat {room} sensor offline, batteries new
@chat lost the sensor under the sink, not in app anymore
The drop sensor down in the {room} has not sent anything since {month}, I only noticed today.
I pressed the button on the sensor and it beeps, but the app pretends that it does not exist.
Two of the sensors at our shop have been silent since {weekday}, the hub itself is green.
@phone_transcript it's the round one in the {room}, it just doesn't talk to the box upstairs anymore
= hub_no_power
> Please try another wall socket and the power cable from the box. If the light stays off, we will send a new
  hub under the two-year warranty.
> No light means no power, so please test a different socket first. If that does not help, the warranty covers a
  new hub for two years.
There is no light on the hub at all, no matter which socket I use.
The box is completely dead. No green, no red, nothing.
@chat hub wont turn on
After the lightning on {weekday} the hub gives no sign of life.
I plugged it into a new strip, the lamp flashed once and then went black for good.
The hub died. I had it for only {months} months.
= hub_damaged
> Please unplug the hub now and do not use it again. We will send you a new hub with a new cable, at no cost to
  you.
Woke up and the hub was off. The plug feels warm, should I worry?
Our cat chewed the cable of the hub and now it does not start.
Someone spilled coffee over the box and it went dark.
= drops_out
> Please move the hub closer to your router and use the 2.4 GHz Wi-Fi, because the hub can't use 5 GHz. That
  stops most short drops.
> A weak Wi-Fi signal is the usual cause. Please place the hub in the same room as the router for one day and
  see if the drops stop.
The connection comes and goes, {count} times a day at least.
Online, offline, online, offline. My phone buzzes all day long with it.
Every evening around eight the hub drops out and returns an hour later.
The monitor disconnects each time someone uses the microwave, strange but true.
It works in the morning and by lunch it has lost the Wi-Fi again.
@chat keeps disconnecting every few hrs
Why does your hub lose the signal when my phone, right beside it, has full bars?
I get around {count} "hub back online" messages per night, so clearly something is not stable.
Moved the hub to the {room} and now it is only reachable now and then.
= after_update
> Update 5.3 stopped some hubs, sorry about that. Please unplug the hub for one minute, and it will load the
  fixed version by itself.
> Some hubs went offline after the last update. Please unplug yours for one minute and leave it on for half an
  hour to install the fix.
Since the update to version {version} the hub is not found any more.
You pushed new software overnight and this morning the box was offline.
The hub said "updating" on {weekday} and has been stuck there ever since.
Your update broke it. It was rock solid for {months} months before.
@chat hub stuck on updating 99%
All {count} hubs in our buildings fell off the network after last night's firmware.
The light has been blinking yellow for {hours} hours, it says it is installing something.
Please undo the new version, my system has been unreachable since it came.
= flow_meter_silent
> Please check that the flow meter cable is pushed firmly into the hub, then press the test button. New values
  appear within ten minutes.
> The hub is online but gets no values from the flow meter. Please unplug its cable, wait ten seconds, and plug
  it in until it clicks.
The hub is green but the flow meter shows zero litres, and we just ran a bath.
No water use recorded since {weekday}. I promise we have showered since then.
The graph is a flat line for {days} days, something between the meter and the app is broken.
Flow meter "not detected" while the rest is working.
@chat flow meter shows 0 all day but water is running
Live view is empty. There is a dash where the litres should be.
It says no reading from the pipe clamp, but nobody touched it.
= offline_vague
> Please unplug the hub for 30 seconds and tell us the colour of its light afterwards. Then we can see what is
  wrong.
It doesn't work any more, please help.
@chat not working
@chat its dead again
Rillwatch stopped working on {weekday}.
The app can't show me anything, it just says try later.
@phone_transcript it just stopped, I don't know, it worked yesterday
"""

BILLING_REFUND = """
= charged_twice plus business
> Sorry about the double charge. We will send {amount} back to your card, and you will see it within five
  working days.
> You are right, the second payment was a mistake. We return it today, and your bank shows it within five
  working days.
You took {amount} from my card twice this month.
There are two payments to Rillwatch on my {month} statement and I only have one account.
I've been billed double. Can one of them be sent back?
My bank shows {amount} on {date} and the very same again one day later.
@chat charged me 2x {amount}??
@chat double payment, want 1 back
Why do I see the {plan} fee two times? I only have a single hub.
Hello accounting, our books show the same Rillwatch invoice paid twice in {month}.
My wife and I were both charged for the same house, that can't be right.
The payment page froze, I clicked pay again, and now both went through.
I am looking at my card app and there you are, twice in a row, {amount} each.
= charged_after_cancel plus business
> Sorry, that payment should not have happened after you cancelled. We return {amount} to your card within five
  working days.
> Your plan is closed, and the last payment was our mistake. The money is back on your card within five working
  days.
I ended my subscription in {month}, and today you still took {amount}.
Cancelled weeks ago. Charged again this morning. Please give it back.
I have the mail that says my {plan} plan is over, so what is this new payment for?
You keep taking money for a plan that I stopped in {month}.
@chat i cancelled and u still charged me
My subscription was closed on {date}, but the card was debited afterwards.
How can there be an invoice for {month} if the contract ended before it?
We no longer have the building, we stopped the service in time, and there it is again on the card.
Apparently cancelling does not mean that you stop charging. I'd like that last payment returned.
= yearly_renewal plus business
> You can get the full yearly fee back within 30 days of the payment. We have started it, and {yearly} will be
  on your card in five working days.
> A yearly payment can be returned within 30 days. We have started this for you, and your plan goes back to
  monthly payment.
The yearly plan renewed by itself and I'd like that money back.
{yearly} is gone from my account for another year that I did not ask for!
I forgot about the renewal on {date}. Is it too late for a refund?
No reminder, no mail, just {yearly} off my card. I want it reversed.
You renewed us for twelve months although I meant to pay monthly. Please return the yearly payment.
@chat yearly auto renew, want refund pls
I thought I was on monthly, but you took the whole year at once.
Can I still get my annual fee back if I have not used the app since it renewed?
@phone_transcript so I look at the bank and there's {yearly} gone, and I never said yes to a whole other year
= wrong_amount plus business
> You should pay {amount} a month, so you paid too much. We send the difference back to your card within five
  working days.
> We checked the price of your plan and you paid too much. The difference will be on your card within five
  working days.
The amount on my bill is wrong. {plan} is {amount}, but you took more.
I was promised the first month free and then paid in full from day one.
My discount code was accepted, yet the invoice shows the normal price.
Please look at the {month} bill, it is higher than all the ones before and nobody told me why.
I signed up at {amount}. What is the extra $3 on the invoice?
Tax was added two times on our last invoice.
@chat bill is higher than last month, why
The price in the shop and the price on my card do not match.
My neighbour pays {amount} for the same plan, and I was asked for more.
= refund_where
> Your refund is on its way. Banks need up to five working days to show it, so please check your card again
  then.
> We sent the refund for order {order} to your card. It can take five working days until your bank shows it.
You said that I would get my money back {days} days ago, so where is it?
Still no refund for order {order}.
My return arrived at your warehouse, the tracking says so, but the money has not.
I was told five working days. It has been {days} days now.
@chat wheres my refund
@chat refund for {order} not here yet
The credit note came by mail, the credit itself did not.
When will I see the money for the sensor that I sent back?
I have my bank open in front of me and there is nothing from Rillwatch coming in.
Can you check if the refund for {order} was really sent? My bank knows nothing.
= invoice_copy plus business
> You find every invoice in the app under Settings, Plan, Invoices. You can also send the PDF from {month} to
  another mail address there.
> All invoices are in the app under Settings, then Plan, then Invoices. Tap one to download it as a PDF or to
  send it by mail.
I need an invoice for {month}, my company asks for it.
Where can I download my bills? I only get a line on the card.
Please put our company name on the invoice for {month}.
Our accountant wants a proper receipt with tax for every payment this year.
@chat need invoice pdf for {month}
The invoice has my old address on it, can you send a new one?
What exactly was the {amount} on {date} for? I can't find a receipt.
= payment_failed plus business
> Please add your new card in the app under Settings, Plan, Payment. We try again within one day, and your plan
  stays active until then.
> Your bank did not accept the payment. Please check the card under Settings, Plan, Payment, and we will try
  again within one day.
My card expired and now your payment did not go through.
You sent me a "payment failed" mail, but there is plenty of money on the card.
@chat payment failed but card is fine
The app refuses my card each time, I have tried {count} times.
= new_card plus business
> You can add a new card in the app under Settings, Plan, Payment. Your next payment of {amount} will then come
  from that card.
> You can add a new card or account in the app under Settings, Plan, Payment. We use it from your next payment on.
How do I give you a new card number? The old card was stolen.
I want to pay from another bank account from now on.
The {amount} should go to my company card and not to my own.
@chat how to change card for payment
= unknown_charge
> Please send us the date and the last four digits of the card. If the payment is not yours, we return it within
  five working days.
I see {amount} to Rillwatch on my card and I don't have an account with you.
What is this charge on {date}? I am on the free plan.
Somebody used my card for your service, I want that stopped and paid back.
I only wanted the free version and yet there is a payment of {amount}.
@chat why did u take {amount} im on free
My mother is {age} and has no idea what this payment to you is. Please explain it or return it.
= refund_vague
> We have looked at your payments and started a refund. Please allow five working days until your bank shows it.
I want my money back.
@chat refund please
This is not what I paid for and I expect something in return.
@chat any news on my money
"""

LOGIN_PROBLEM = """
= forgot_password
> Tap "Forgot password" on the login page and we send you a link. The link works for 30 minutes, so please use
  it soon.
> Please use "Forgot password" on the first page of the app. You get a mail with a link that is valid for 30
  minutes.
I forgot my password and can't get into the app.
How do I get a new password? Mine is on a note that I have lost.
It has been {months} months since I last logged in and I don't know the password any more.
@chat forgot pw
My late husband set this up and I do not know what password he used.
The password that I wrote down is not accepted.
I am sure the password is right, but the app says that it is wrong.
Wrong password, wrong password, wrong password. I give up.
@chat says wrong password but its not wrong
The browser used to fill in my password, and on my new {os} it doesn't.
What are the rules for a new password? It rejects each one I think up.
@phone_transcript I type in my password, the same one as always, and it goes red and says no
= no_reset_mail
> Please look in your spam folder for a mail from Rillwatch. If it is not there, check that you use the same
  address as when you signed up.
> Reset mails can land in the spam folder. If you find nothing after ten minutes, you may have signed up with
  another mail address.
I asked for a reset link {count} times and nothing arrives.
The mail to set a new password never came, and yes, I looked in spam.
"We have sent you a link." No, you have not.
The link in the reset mail says it is too old, though I clicked it right away.
@chat no reset email
I press forgot password, it shows a green tick, and then silence.
The reset link opens a white page on my {os}.
I waited {hours} hours for the mail with the link, how long does it take?
Each reset mail I get is expired by the time I see it.
= locked
> After five wrong tries the account is locked for 15 minutes. Please wait, and then use "Forgot password" to
  choose a new one.
> Your account is safe, it locks for 15 minutes after five wrong tries. After that time you can log in or choose
  a new password.
My account is locked, please open it.
Too many attempts, it says. What do I do now?
I was locked out after typing the password wrong a few times.
The kids played with my {os} and now my account is blocked.
@chat account locked pls unlock
How long does the lock last? I need to see if my {room} is dry.
You blocked me out of my own house monitor!
I got a mail about {count} failed attempts from a place that I have never been to, and now I can't sign in.
= code_missing
> The login code works for ten minutes and goes to the phone number in your account. Please ask for a new one
  and use only the latest code.
> Please ask for a new code and use only the newest one. If no text arrives, choose "Send by mail" below the
  code field.
The six digit code does not come to my phone.
I have a new phone number, so the login code goes to the old one.
I type in the code and it says invalid.
By the time the text message with the code is here it has already run out.
Two-step login keeps me out, the text never reaches me abroad.
@chat no sms code
I lost my phone. How can I sign in without the code?
The code box closes before I can paste the number on my {os}.
Your text with the numbers arrives an hour late, so I can never use it.
@app Code not accepted, {count} tries.
= changed_mail
> Write to us from your old address, or send a photo of the label below your hub. Then we move the account to
  your new address.
> We can move your account to a new mail address. Please send us the serial number from below the hub so that we
  know it is yours.
My old mail address does not exist any more, so I can't sign in.
I left the company, and the Rillwatch account is on my work address.
I don't remember which address I used when I signed up.
The person who made our account has left the firm and nobody else can get in.
It says "no account with this address", but I get your bills every month.
We bought a house with your hub in it, how do I get into the account of the people before us?
There was a typing mistake in my address when I registered, so now I can't confirm it.
@chat dont know which email i used
My address changed when I got married. The app only knows the old one.
= app_loop
> Please remove the app, install the newest version, and log in again. Your hub and your settings are saved in
  your account.
> Please update the app to the newest version and try again. If that fails, remove it and install it new, your
  settings stay safe.
I sign in, it spins, and I am back on the sign in page.
The app throws me out every few minutes and wants my password again.
After the update to {version} I am logged out and can't go back in.
The login button is grey and nothing happens when I tap it on my {os}.
The app opens, shows the logo, and closes. No chance to sign in.
I can enter on the website but not on my {os}.
@chat app logs me out all the time
Session expired. Session expired. Session expired. What does that even mean?
On my new {os} the app asks for an account, and the old one is apparently unknown.
It wants me to accept new terms, I accept, and it asks me the same thing again.
= family_access
> Each person needs an own login. Open Settings, then People, and send an invitation to the address of the
  person who should get in.
My wife can't log in with my password while I am logged in.
The invite link that I sent to my daughter says she has no access.
Our caretaker needs to get in, but his account says "no permission".
@chat invited my husband, his login doesnt work
Since today I only see "you are not a member of this home".
My sister could always see the house, and now her account is empty.
= login_vague
> Please tell us what the app shows after you tap "Log in". You can also choose a new password with "Forgot
  password".
I can't get in.
@chat cant get in
I'm stuck at the first page.
Nothing works, the app doesn't let me see my home.
The app can't show me anything, it just says try again later.
@phone_transcript I just want to see my water thing and it doesn't let me
"""

DELIVERY_DELAY = """
= late_parcel
> Sorry that order {order} is late. It left our warehouse and should reach you within two working days, and the
  tracking link is in your mail.
> Sorry for the wait. Delivery takes three to five working days, and you can follow the parcel with the link in
  your mail.
> Sorry, we asked the carrier about order {order}. If it is not there in ten working days, we send you a new
  parcel for free.
Where is my parcel? I ordered {days} days ago.
Order {order} should have been here on {weekday}.
I paid for fast shipping and I am still waiting after {days} days.
Has my hub been sent yet? Order {order}.
It has been {weeks} weeks. How long can a small box take?
I took a day off work for the delivery on {weekday} and nobody came.
@chat wheres my order {order}
@chat still no package
The plumber comes on {weekday} and needs the shut-off valve, will order {order} be here by then?
You promised three to five days. We are at day {days}.
My neighbour ordered after me and already has hers.
Is there a problem with {order}? The status has not moved since {date}.
I am starting to think that the parcel does not exist.
The shop page said "in stock", the mail says "soon". Which one is it?
@phone_transcript I'm calling about a package, order {order}, it was meant to come {weekday}
We leave on holiday at the end of the week and wanted the sensors in place before that. Where are they?
My birthday present for dad, order {order}, will clearly not make it in time.
= tracking_stuck
> Tracking can stand still for two days while the parcel changes trucks. If nothing moves by then, we will send
  order {order} again.
> The tracking page can be two days behind. If there is no change after that, write to us and we send the parcel
  again for free.
The tracking has said "label created" for {days} days.
Tracking shows my parcel in a city that is nowhere near me.
The link in your shipping mail leads to an error page.
I never received a tracking number for {order}.
"Out for delivery" since {weekday}. It must be a very long street.
@chat tracking not updating
According to the carrier you have not handed over the box yet.
Tracking tells me it goes back to sender, why? I was at home all day.
My order is going in circles, it was at the same depot {count} times.
= not_received
> Please ask your neighbours and look in a safe place near the door. If you don't find it today, we send order
  {order} again for free.
> Please check with your neighbours first. If the parcel does not turn up within one day, tell us and we send a
  new one for free.
It is marked as delivered, but there is nothing at my door.
The carrier says that I signed for {order}. I did not, I was at work.
Somebody must have taken the parcel from the porch.
Delivered to a neighbour, it says. No neighbour knows about it.
@chat says delivered, i got nothing
I got a photo of a doorstep with my parcel. That is not my doorstep.
Our reception has no record of your shipment {order}.
The box is in the system as handed over on {date}, but our mailroom denies it.
= missing_part
> Sorry, the rest of order {order} comes in a second parcel. It should reach you within three working days, at
  no cost.
> Sorry that something is missing. The other part is sent in its own parcel and should arrive within three
  working days.
Only half of my order came, the sensors are missing.
I ordered {count} sensors and the box has one less in it.
The hub is here, the flow meter is not. When does it arrive?
There was no power cable in the parcel.
@chat box came but no sensors inside
The package was open and a piece was missing when I got it.
I see two items on the packing slip of {order}, but only one in the carton.
Is the valve sent separately? It wasn't with the rest.
= change_address
> We can change the address until the parcel leaves us. Please send us the new street and city today, with your
  order number.
> Please send us the new address for order {order} today. If it has already left, the carrier can still send it
  on to you.
I typed in the wrong house number, can you still change it for {order}?
We moved last week and the parcel goes to the old flat.
Can you deliver to my office and not to my home?
@chat wrong address on my order!!
Could the courier leave it in the garage? I work until six.
The address on the confirmation lacks the flat number, I fear it will get lost.
= hold_parcel
> The carrier can keep order {order} for up to two weeks. Please open the link in your shipping mail and choose
  "Hold parcel".
> The carrier can keep your parcel for up to two weeks. Please open the link in your shipping mail and choose
  "Hold parcel".
Please hold {order} until the end of the month, I am away.
We are on holiday when the parcel comes, can it wait at the depot?
@chat not home till {weekday}, can delivery wait
= backorder
> The part is out of stock right now, and we send order {order} as soon as it is back, in about two weeks. You
  can also cancel it for free.
> This item is out of stock and will be back in about two weeks. Your place in the line is safe, or you can
  cancel for free.
My order has been on "waiting for stock" since {month}.
When are the shut-off valves available again?
You moved my delivery date for the {nth} time.
I was told {weeks} weeks, then another {weeks} weeks. What is going on?
@chat when is it back in stock
The replacement hub that you promised has still not been sent.
Our site opens on {weekday} and the {count} hubs we ordered are "in preparation".
Your mail says there is a delay, but not how long it will be.
= delivery_vague
> Sorry for the wait. Please send us your order number, and we check with the carrier where the parcel is today.
Any news about {order}?
I am still waiting.
@chat any update?
It has been {days} days and I have heard nothing.
@chat {order} ???
Please look into {order} for me.
"""

INSTALLATION_HELP = """
= pair_hub
> Plug in the hub, hold its button until it blinks blue, and tap "Add device" in the app. Your phone must be on
  2.4 GHz Wi-Fi.
> The hub only works with 2.4 GHz Wi-Fi. Connect your phone to that network, hold the hub button until it blinks
  blue, and try again.
I have just unpacked the hub and the app does not find it.
Setup stops at step {step} with error {code}.
First time setup: it asks for a blue light, but mine is blinking white.
I can't get the new hub to join my Wi-Fi.
Which Wi-Fi do I have to use for the setup? We have two names at home.
The app wants to scan a code, and I don't see a code on the box.
@chat new hub wont pair
@chat stuck at step {step} of setup
Setting it up for my parents and the app keeps searching and searching.
Do I need to turn off 5 GHz to add the hub? It fails at step {step} each time.
The hub says hello in green but then the app claims that setup failed.
We use a guest network at work, and the new hub does not accept it.
@phone_transcript I've got it plugged in, it's brand new, and the phone says searching for device, searching,
  searching
= place_sensors
> Put the sensor flat on the floor where water would go first, such as below the sink. It must be within 30
  metres of the hub.
> Place the {room} sensor flat on the floor, at the lowest point, with the metal dots down. It must be within 30
  metres of the hub.
Where is the best spot for the sensor in the {room}?
Should the metal dots look up or down?
Can I put a leak sensor inside the cabinet, or will the wood block the signal?
I want to place one behind the washing machine, is vibration a problem?
Is it OK to stick the sensor to the wall in the {room}?
@chat where do sensors go??
My {room} floor is not level, so which corner should get the sensor?
= how_many_sensors
> Most homes need one sensor in each bathroom, one below the kitchen sink and one by the washing machine. Free
  has three, Plus up to 20.
How many sensors do I need for a house with {count} bathrooms?
Three floors, {count} bathrooms, one kitchen: what would you put where?
= outdoor
> The sensors are made for indoor use only, because frost breaks the batteries. Please use a dry place above
  four degrees, such as the garage.
Can the sensors stay outside in winter, near the garden tap?
I'd like to fix one in the garden shed, is that fine?
= add_sensor
> Open Devices in the app, tap "Add sensor", and press the sensor button until it beeps. Do this next to the hub
  the first time.
> Please stand next to the hub, tap "Add sensor" in the app, and hold the sensor button for three seconds until
  it beeps.
How do I add one more sensor to my home?
The new sensor from my second order does not show up, what is the trick?
I pulled out the plastic strip and pressed the button, but the app did not react.
Sensor number {count} refuses to pair, the ones before were easy.
@chat how to add sensor
Can I take a sensor from my old house and use it with the hub here?
Replaced the hub, now I want to bring all my old sensors over to it.
It beeps two times and the app says "pairing timed out".
Bought a used sensor. How do I make it mine?
= mount_flow_meter
> Clamp the meter on the main pipe after the water meter, with the arrow in the direction of the water. No pipe
  has to be cut.
> The flow meter fits pipes from 15 to 28 mm. Clamp it on a straight piece of the main pipe and push the cable
  into the hub.
Which way does the arrow on the flow meter point?
Does the clamp fit on a 22 mm copper pipe?
Do I have to cut the pipe for the flow meter?
My main pipe is behind a wall with only a small gap, can I clamp it anywhere else?
The clamp slides around on the pipe no matter how hard I tighten it.
Before or after the pressure valve? The manual shows only one picture and it is not my house.
@chat flow meter on plastic pipe ok?
I am a plumber and fit this for a client, which side of the filter do you recommend?
= learning_time
> The flow meter learns your water use for seven days after you fit it. Alerts start by themselves when
  "learning" is gone.
How long must I wait after fitting the meter? It says "learning" since {weekday}.
The meter is on the pipe for {days} days, but the app says that it is not ready.
= short_cable
> The cable is three metres long, and you can get a longer one of ten metres in our shop. The hub then stays
  where it is.
The cable of the flow meter is too short to reach the hub in the {room}.
@chat cable to pipe too short, got longer one?
= tools_and_phone
> You need no tools for the hub and the sensors, only a phone or tablet with our app. The setup takes about ten
  minutes.
Is there a way to do the first setup without a phone?
What tools do I need before I begin?
Do I have to be handy to put your things up, or can anyone do it?
= shutoff_valve
> The shut-off valve has to be fitted by a plumber, which takes about one hour. Then tap "Add device" in the app
  and choose the valve.
> A plumber should fit the valve on the main pipe. After that, add it in the app under Devices and tap "Test
  valve" once.
Can I install the shut-off valve myself?
What should I tell my plumber about the valve? He has never seen one.
The valve is in, but it turns the wrong way when I test it.
Do you have someone in my area who can fit the valve?
Does the valve need its own power socket? There is none in the {room}.
@chat need plumber for valve?
Water is off at the house until I get this valve in, and page {step} of the manual is unclear.
Our technician has mounted the valve, how is it linked to the hub now?
= move_house
> Take the hub with you, plug it in at the new home, and hold the button for 10 seconds. Then follow "Add
  device" in the app again.
> You can use the same hub in a new home. Hold its button for 10 seconds, start "Add device" again, and change
  the address in Settings.
We are moving and take the system along, what are the steps to set it up again?
I want to move the hub from the {room} to upstairs. Must I start from zero?
How do I reset everything so that the new tenant can set it up?
I want to give my hub to my brother, how does he install it as his own?
@chat moving house, how to reinstall
We renovate the {room}, so all has to come off the wall and be put back later. How?
= need_manual
> You find the guide with pictures in the app under Help, Setup. If you tell us the step where you are stuck, we
  gladly help.
There was no manual in the box.
Is there a video that shows how it is put together?
I'm {age} and not good with these things, can someone guide me through it?
The guide is only in English, and my father needs it in Spanish.
@chat instructions?
I can't get it to work and I only opened the box today.
@chat just got it, doesnt work
"""

CANCEL_SUBSCRIPTION = """
= how_to_cancel plus business
> Open Settings, then Plan, and tap "Cancel". Your {plan} plan stays active until the end of the paid time, and
  then becomes Free.
> You can cancel in the app under Settings, Plan, Cancel. Your plan runs until the end of the paid time and
  costs nothing after that.
How do I cancel my {plan} plan?
I can't find the button to end my subscription.
Please tell me where to stop the {plan} plan, I have looked through the whole app.
Where in the menu do I unsubscribe?
@chat how to cancel
@chat where is the cancel button
Can I cancel on the website? I no longer have the app.
The cancel page gives an error {code} when I confirm.
What is the notice period if I want to leave?
If I stop now, does the {plan} plan end today or at the end of the month?
I have pressed cancel {count} times and my account still says active.
Is my cancellation in your system? I got no mail about it.
= cancel_for_me plus business
> We have cancelled your {plan} plan. It stays active until the end of the paid time, and no more money will be
  taken.
> Your subscription is now cancelled, and you will not pay again. You can use it until the end of the time that
  you have paid for.
Please cancel my subscription.
I do not want to renew my {plan} plan.
I would like to end my contract with you as of {next_month}.
Take me off the {plan} plan, please, I have no use for it.
@chat cancel my plan pls
@chat stop my subscription today
I hereby give notice for my Rillwatch {plan} subscription.
Please close the subscription for the flat, the hub stays in the drawer from now on.
This is my {nth} message: I want out.
Don't charge me again after this month, I am done.
We are closing our office, so kindly terminate the service.
@phone_transcript I'd like to, well, I want to stop the plan, the one I pay for each month
= cancel_price plus business
> We understand that {amount} a month is a lot. We have cancelled the plan, and you can go on with the Free plan
  at no cost.
> We are sorry to see you go. Your plan is cancelled at the end of the paid time, and the Free plan with three
  sensors stays yours.
{amount} every month is too much for what it does, I want to leave.
Money is tight at the moment, so I have to let the subscription go.
Nothing has leaked in {months} months, so why should I keep paying? End it please.
You raised the price and I do not agree, please terminate my plan.
I hardly open the app. It makes no sense to pay for it any longer.
My insurance no longer gives me a discount for it, so I am stopping.
Found something cheaper. Goodbye, and please stop the payments.
@chat too expensive, cancelling
We have to cut costs this year and your service is on the list.
= cancel_unhappy plus business
> We are sorry that it did not work for you. Your plan is cancelled, and it stays active until the end of the
  paid time.
> Sorry for the trouble that you had. We have cancelled the plan for you, and no more payments will be taken
  from now on.
The hub is offline half of the time, I have had enough, cancel it.
After the {nth} false alarm at night my husband wants it gone, so please end the plan.
Your support never replied, so I would rather leave.
It did not warn me when the {room} was under water. I am leaving you.
I only tried it because of a friend, and it is not for me. Please stop the plan.
@chat useless. cancel
If this is not fixed by {weekday} you can cancel my account.
Your app got worse with every version, I no longer wish to be a subscriber.
I am very let down and do not want to continue after {next_month}.
= moving_away plus business
> We have ended the plan for your old home, and no more money will be taken. Your data is kept for 90 days in
  case you come back.
> We have cancelled the plan. Your data is kept for 90 days, so you can start again if you need it in a new
  home.
We sold the house, so the subscription is no longer needed.
I am moving abroad in {next_month} and can't take the contract along.
My mother has passed away, please stop her subscription.
The building has been torn down, there is no water left to monitor.
My tenant leaves at the end of {next_month} and I want to stop the plan then.
I'm going into a care home and will not need this any longer.
@chat sold my flat, need to end the plan
The new owner does not want to take over our {plan} plan, what now?
We close the holiday flat over the winter, can I end it now and come back in spring?
= delete_account
> You can delete your account under Settings, Account, Delete. All your data is removed after 30 days, and this
  can't be undone.
> Open Settings, then Account, and tap "Delete". Your plan ends too, and all your data is removed after 30 days.
Please delete my account and all my data.
I want to be removed from your system completely.
How can I erase everything that you have stored about my home?
@chat delete my acc
Please forget about me: no plan, no mails, no account.
What happens to my water history when I leave?
= trial_end plus business
> Your free trial ends by itself after 30 days if you cancel before. We have cancelled it for you, so you will
  pay nothing.
My free month ends on {next_date}, and I don't want to go on.
How do I stop the trial before it costs me {amount}?
I signed up for the trial by mistake, please take it back.
@chat stop trial before it charges me
I only wanted to test {plan}, please make sure that it does not turn into a real contract.
Will I be charged when the trial is over? I would rather not stay.
= cancel_vague plus business
> We have noted that you want to leave. Your plan is cancelled at the end of the paid time, and you pay nothing
  after that.
I don't want this any more.
@chat i'm out
Please stop.
I no longer need Rillwatch.
"""

FALSE_ALARM = """
= no_water
> Please dry the metal dots below the {room} sensor with a cloth, then set its sensitivity to Low under Devices.
  That stops most false alarms.
> Please dry the metal dots of the sensor with a cloth and set its sensitivity to Low in the app. Damp air can
  cause an alarm.
The {room} sensor screams "leak", but the floor is bone dry.
I raced home from work because of your alert, and there was not a drop of water.
Third alarm this week and each time there is nothing.
It says water in the {room}, I am standing there right now in dry socks.
How do I know that an alert is real? The last {count} were not.
@chat alarm but no leak
@chat sensor in {room} says wet, its dry
I called a plumber because of the warning, he found nothing and I had to pay him.
The system cried wolf again on {weekday}.
It keeps telling my tenants that there is a flood. There is none.
My {room} is fine, yet my phone tells me the opposite every morning.
Leak detected. No leak. Leak detected. No leak. Please make it end.
= night_alarm
> A water softener or toilet that fills at night can look like a leak. Please set quiet hours under Alerts, or
  add the softener there.
> Something uses water at night, often a softener or a toilet. Open Alerts and mark that event as "Not a leak",
  so that the hub learns it.
Each night at three the app warns about running water while we are all asleep.
The alarm woke up the baby at {hour} for no reason at all.
My water softener runs at night and your hub takes it for a burst pipe.
I get "unusual flow" at {hour} every day, I think it is the garden watering.
@chat alarm at 3am every night why
The siren went off while we slept, and after that no one could sleep. Nothing was wet.
Flow warning in the middle of the night, the toilet was just filling up.
Our cleaners work late and set off the night warning every {weekday}.
= shower_flow
> Long showers can look like a leak. Please raise the flow limit under Alerts to 30 minutes, and mark the event
  as "Not a leak".
> Please open the alert and tap "Not a leak", so that the hub learns your use. You can also raise the flow limit
  under Alerts.
It thinks my teenager's shower is a leak.
Filling the pool made your system shut off the water!
Whenever I water the garden, I get a burst pipe warning.
A bath is enough to trigger the high flow alert.
The valve closed while I was in the shower, with soap in my hair, since it believed there was a leak.
@chat shower = leak alarm lol
The dishwasher and the washing machine together set it off.
We had {count} guests over the weekend and it warned us about every single shower.
= condensation
> Cold pipes can drip a little in warm air. Please move the sensor away from the pipe and dry it, then the alarm
  should stop.
I believe it is damp air from the dryer that sets off the sensor in the {room}.
Could steam cause the alarm? It goes off after each hot shower.
Drops from the cold pipe fall on the sensor, not a real leak, and still I get a siren.
My dog's water bowl stands close by and every splash becomes an emergency.
Mopping the floor = alarm. Each time.
The {room} is humid all year, and since {month} the warnings come daily.
@chat sensor goes off when i mop
= stop_siren
> Press the button on the hub once to stop the siren. Then dry the sensor and tap "Not a leak" in the app.
> Press the hub button once, and the siren stops. You can also pause all alerts for up to 12 hours in the app.
It is beeping right now and I can't stop it!
How do I switch off the siren when there is no leak?
The neighbours complain about the noise, the alert is false and I am not at home.
@chat HOW DO I TURN OFF THE ALARM
The beep goes on although I dried everything.
I had to take out the batteries to make the {room} sensor quiet.
@phone_transcript can you hear that? that's the alarm, it's been going for {minutes} minutes and there's no
  water anywhere
= freeze_warning
> A freeze warning comes when a sensor measures less than four degrees. Please move it away from the window, or
  change the limit under Alerts.
I keep getting freeze warnings, but the {room} is at twenty degrees.
The app says that a pipe may freeze. It is warm here.
Low temperature alert, yet the heating is on full.
The cold alert went off {count} times, and my thermometer shows twenty-one.
@chat freeze alert in a warm room
Temperature in the {room} is shown as minus two, which is nonsense.
= too_sensitive
> Open Devices, choose the sensor, and set its sensitivity to Low. It then waits for more water before it sends
  an alarm.
Your sensors are far too sensitive.
Can it wait a minute before it alarms the whole family?
One drop and everybody in the office gets a message.
I am close to cancelling, because these alarms for nothing drive me mad.
Is there a way to make the {room} sensor less nervous?
I no longer take the alerts seriously, and that is dangerous, isn't it?
@chat too many alerts, all wrong
"""

CHANGE_PLAN = """
= free_to_plus free
> Open Settings, then Plan, and choose Plus for $6.99 a month. You can use it at once, with up to 20 sensors and
  text alerts.
> You can move to Plus under Settings, Plan. It costs $6.99 a month or $69 a year, and starts at once.
I'd like to move from Free to Plus.
How do I upgrade? I need more than three sensors.
What do I pay if I switch to Plus today?
Please put me on Plus, I want the text alerts.
@chat how do i get plus
I have the free version and want one year of history.
My free account does not let me add a fourth sensor, so I guess I need a bigger plan.
Is it cheaper if I take Plus for the whole year?
@chat upgrade me to plus pls
= plus_to_business plus
> Open Settings, then Plan, and choose Business for $24.99 a month. You only pay the difference for the rest of
  this month.
> Business costs $24.99 a month and covers up to 10 hubs. You can switch under Settings, Plan, and you pay only
  the difference now.
I now look after {count} flats, which plan do I need?
We want to change from Plus to Business.
Can I put a second hub on my account, or does that need another plan?
Our club has grown and Plus is too small for us.
If I go to Business in the middle of the month, do I pay twice?
@chat plus to business, how much
I want to add my office. What is the next plan up?
= switch_fails free plus
> Please update the app to the newest version and try the switch again. You can also change the plan on our
  website after you log in.
The upgrade button does nothing when I choose Plus.
Switching to Business failed with error {code}.
I picked the bigger plan, it said thank you, and I am still on the old one.
= plus_to_free plus
> Open Settings, then Plan, and choose Free. You keep three sensors and seven days of history, and Plus runs
  until the paid time is over.
> You can go down to Free under Settings, Plan. Plus stays on until the paid time is over, and after that you
  pay nothing.
I want to go back to the free version.
Can I downgrade from Plus to Free and keep my sensors?
I don't need the extras any more, the basic plan is enough for me.
What do I lose if I drop to Free?
@chat downgrade to free pls
Is it possible to keep the hub running without paying for Plus?
I only want the simple alerts, not the paid stuff.
Please make my account a free one starting in {next_month}.
= business_to_plus business
> Open Settings, then Plan, and choose Plus. The change starts with your next bill, and then you pay $6.99 a
  month for one hub.
We only have one location left, so Business is too large.
I would like to step down from Business to Plus.
Can we go to a smaller plan from {next_month}? Half of our hubs are gone.
@chat business -> plus possible?
I took Business by mistake, Plus would have been right.
We pay {amount} and use only one hub. What is a better fit for us?
Is there something between Plus and Business?
= monthly_yearly plus business
> Open Settings, then Plan, and tap "Pay yearly". One year costs {yearly}, and the rest of this month is taken
  off the price.
> You can change between monthly and yearly payment under Settings, Plan. The change starts on your next payment
  day.
I want to pay once a year instead of monthly.
How much do I save if I take the annual {plan} plan?
@chat switch to yearly?
Please move our {plan} plan to one payment per year, it is easier for the books.
When does the change to yearly start?
= to_monthly plus business
> Open Settings, then Plan, and tap "Pay monthly". The change starts when your paid year is over, and then you
  pay {amount} a month.
> You can change to monthly payment under Settings, Plan. The change starts when the year that you have paid for
  is over.
Can I change from yearly to monthly billing?
I'd rather pay each month, {yearly} at once is a lot.
How do I get back to paying {amount} a month?
@chat monthly instead of yearly possible?
= pause_plan plus business
> You can pause your plan for up to three months under Settings, Plan, Pause. You pay nothing then, and simple
  leak alerts stay on.
Can I pause the {plan} plan while we are away for {count} months?
We only use the cabin in summer, do you have a plan for half a year?
I don't want to leave you, only stop paying during the winter.
@chat pause plan?
Is it possible to freeze my subscription until {next_month}?
= share_or_transfer plus business
> We can move the {plan} plan to another account. Please send us the mail address of the new owner, and the
  price stays the same.
> We can move your plan to another account. Please send us the mail address of the new owner, and the rest stays
  the same.
I want to move the {plan} plan to my wife's account.
Can the new tenant take over my {plan} plan?
I have two accounts and only one should have {plan}, please swap them.
Our firm has a new name, can the plan run under that?
@chat move my plan to other account
= plan_vague
> You find all plans under Settings, Plan: Free, Plus for $6.99 and Business for $24.99 a month. You can switch
  at any time.
Which plan is right for me?
I want to change something about my subscription.
@chat wrong plan
Can I switch?
My plan does not fit me any more.
"""

FEATURE_QUESTION = """
= history
> You see seven days of history on Free, one year on Plus and three years on Business. Tap the graph to change
  the time.
How far back can I see my water use?
Can the app compare this {month} with last year?
Is there a view per week and not just per day?
@chat how long is history kept
Why do I only see the last seven days?
= units
> Yes, you can choose gallons or litres under Settings, Units. The change counts for all graphs and reports at
  once.
Can I see the litres in gallons?
@chat litres to gallons?
= one_use
> Tap any bar in the History graph to see how many litres one shower or bath needed. This works when you have a
  flow meter.
I'd like to know how much water a shower needs, does it show that?
Does it measure hot water separately?
Can it tell me what the dishwasher uses each time?
= export
> Export is part of the Business plan. Open History, tap the share sign, and choose CSV or PDF for the time that
  you need.
Can I export the data as a spreadsheet?
My landlord wants a report of our water use for {month}, can the app make one?
Do you have an API? I'd like to read the values in my own program.
@chat csv export?
We need the readings of all {count} sites in one file for our energy audit.
= smart_home
> Rillwatch works with the usual voice assistants. Open Settings, then Connections, choose your system, and log
  in once.
Does it work with a voice assistant?
Can I link the hub to my smart home so that the lights flash in case of a leak?
I want my heating to turn off when there is a leak, is this possible?
@chat does it work w smart speakers
= widget
> Yes, there is a small Rillwatch widget for phones and tablets, and watches show the alerts. Hold the home
  screen to add the widget.
Is there a widget for the home screen of my {os}?
Can I see it on my watch?
@chat widget for {os}?
= sharing
> On Plus you can share your home with five people, and on Business with 25. Open Settings, then People, send an
  invitation, and choose what each person can see.
How many people can look at one home?
Can my neighbour get the alerts while I am on holiday?
I want my wife to get the alarms too, where do I set that?
Is it possible to give our caretaker only the alerts but not the graphs?
@chat can 2 phones use same hub
May my tenant see her own water use and nothing else?
= alerts_choice
> You choose this under Alerts in the app. Push alerts are free, and text messages and calls are part of Plus
  and Business.
Can you send a text message and not only push?
Is there a mode for holidays that reports every drop?
Can it call me when there is a leak? I never look at the app.
Where can I set quiet hours so that nobody gets messages at night?
@chat can i get alerts by text
Could I have a different sound for the {room}?
= shutoff_auto
> Yes, with the shut-off valve the hub can close the water by itself. Open Alerts, then Automatic, and choose
  after how many minutes.
Can it turn off the water by itself?
If I am away and a pipe breaks, what will Rillwatch do?
Can I close the valve with the app from another country?
@chat can it shut water off automatically
How quickly does the valve close after a leak is found?
= battery_and_range
> The sensor batteries last about two years, and the range is 30 metres. The app warns you one month before they
  are empty.
How long do the sensor batteries last?
Is the range enough for three floors of concrete?
Which batteries do the sensors take?
@chat how far do sensors reach
Can I see the battery level of the {room} sensor somewhere?
= power_cut
> The hub has no battery, so it needs power to work. Without internet it still sounds the siren and can close
  the valve.
Does the siren also work when the internet is down?
Will the valve still close if there is no power?
Does the hub have a battery for power cuts?
@chat what happens if wifi is out, still alarm?
= loud_phone
> Yes, leak alerts can sound even when the phone is on silent. Please turn on "Loud alerts" in the app under
  Alerts.
Will I hear the alarm when my phone is on silent?
I sleep with the phone muted. Would a leak still wake me?
= privacy
> Your water data is kept only for the time of your plan, and we never sell it. You can read more under
  Settings, Privacy.
Who can see my water data?
Do you sell information on when I am at home?
Where are the numbers from my house stored, and for how long?
= app_look
> You can change the language and turn on dark mode under Settings, Display. The app speaks English, Spanish,
  French and German.
Does the app run in Spanish?
Do you have a dark mode? The white screen at night hurts.
@chat dark mode when
= what_it_finds
> Yes, it works with city water and with a well. The flow meter also finds small drips when you use the app for
  seven days.
Can it detect a slowly dripping tap, or just big leaks?
Does it work with a well instead of city water?
Would it notice a toilet that runs all day?
= free_scope
> Without a plan you get three sensors, push alerts and seven days of history. You only pay if you choose Plus
  or Business.
Before I buy it: what does it do without a subscription?
Which parts of the app are free for ever?
= wish
> Thank you for the idea, we have sent it to our app team. It is not possible today, but we will tell you if it
  comes.
@app Please add a monthly goal for saving water.
It would be lovely to give each hub its own colour in the list, can you do that?
Is there a bigger version of the hub for a long building?
"""

RETURN_DEVICE = """
= how_to_return
> You can return it within 30 days. Open Orders in the app, choose {order}, tap "Return", and print the free
  label.
> You can return it within 30 days for free. Open Orders in the app, tap "Return", print the label, and drop off
  the parcel.
How do I send the hub back?
I'd like to return order {order}.
Where do I find the return label?
The device is not for me, what is your return policy?
I bought it {days} days ago and changed my mind.
@chat how to return
@chat need return label for {order}
Is the return free, or do I have to pay the postage?
I want to send back {count} sensors and keep the rest.
We ordered too many for the office, can the spare ones go back?
My husband ordered the same thing, so one of the two goes back to you.
The pipe in my house is too thick for it, so I can't use the meter. What is the way to return it?
My landlord doesn't allow it on the pipe, so it has to go back.
Can I bring it back to a shop?
= faulty_exchange
> Sorry that it is faulty. The two-year warranty covers it, and we will send you a new one with a free label for
  the old one.
> We are sorry about that. We will exchange the part in order {order} under the two-year warranty and mail you a
  free label.
The hub came with a crack in the case, I want to swap it.
The sensor was broken right out of the box.
It never worked from the first day, I want to send it back.
Can I exchange the dead hub for a new one? It is {months} months old.
@chat hub broken, want to exchange
The flow meter leaks! Please take it back.
One sensor in {order} has rust on it and smells burnt.
The parcel was wet and the hub inside it rattles, I do not want to keep it.
I got the wrong model, where do I send it?
= late_return
> Returns are free for 30 days after delivery. After that we can't take it back, but a fault is covered for two
  years.
I missed the 30 days, is there any chance to give it back?
It was a gift and it sat in a cupboard for {months} months. Can it be returned?
How many days do I have to send the thing back?
@chat can i return after {weeks} weeks
The box is open and I have used it once, do you still take it?
I threw away the packaging, is that a problem for a return?
= return_status
> Please allow three working days after the parcel reaches us. We mail you when your return is checked, and then
  the refund starts.
> The return of order {order} is not checked yet. This takes three working days after arrival, and then you get
  a mail and your refund.
I sent the hub back {days} days ago, did you get it?
Has the return of {order} reached you?
The carrier lost the parcel that I was sending to you.
I handed in the return on {weekday}, and the app still says "waiting".
@chat did my return arrive
I dropped the box at the post office, but I lost the receipt.
Any news about {order}? I sent it back on {date}.
= pickup
> Please print the label from Orders in the app and stick it on the box. A driver can fetch it if you choose
  "Pick up".
> Choose "Pick up" when you start the return under Orders. The driver then comes within two working days and
  brings the label along.
Can someone pick up the parcel? I can't leave the house.
I have no printer for the return label.
The label can't be scanned, they refused it at the counter.
@chat no printer for label
= recycle
> The hub and the sensors are yours, so you don't have to send them back. We recycle old ones for free with the
  label under Orders.
My plan is over, but what do I do with the hardware now? Shall it go back to you?
Where do I recycle an old hub, or do you take it?
= return_vague
> You can send it back within 30 days. Please open Orders in the app and tap "Return" to get a free label.
I don't want it, it goes back.
@chat sending it back
Please look into {order}, it should go back.
It's not what I thought it would be.
"""

INTENTS: dict[str, tuple[Topic, ...]] = {
    "device_offline": parse_topics(DEVICE_OFFLINE),
    "billing_refund": parse_topics(BILLING_REFUND),
    "login_problem": parse_topics(LOGIN_PROBLEM),
    "delivery_delay": parse_topics(DELIVERY_DELAY),
    "installation_help": parse_topics(INSTALLATION_HELP),
    "cancel_subscription": parse_topics(CANCEL_SUBSCRIPTION),
    "false_alarm": parse_topics(FALSE_ALARM),
    "change_plan": parse_topics(CHANGE_PLAN),
    "feature_question": parse_topics(FEATURE_QUESTION),
    "return_device": parse_topics(RETURN_DEVICE),
}
