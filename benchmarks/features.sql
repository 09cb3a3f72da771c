-- The traits of core/features once more, written by hand in plain DuckDB SQL, as an analyst would write them.
-- It is the yardstick for speed and the second opinion on values; it shares nothing with the Ibis expressions.
-- Wants views customers, products, orders, order_items, events, and the variables as_of (TIMESTAMPTZ) and zone (VARCHAR).
with
o as (
  select order_id, contact_id, ordered_at, country
  from orders
  where contact_id is not null and ordered_at <= getvariable('as_of')
),
-- What was taken back only after as_of was still a sale: walking backwards, each cancellation cancels one more sale.
undone as (
  select i.order_id, i.line_no, contact_id, product_id, abs(quantity) as pieces, line_kind = 'reversal' as cancels,
         ordered_at, sum(if(line_kind = 'reversal', -1, 1)) over (
           partition by contact_id, product_id, abs(quantity)
           order by ordered_at, line_kind = 'reversal', i.order_id, i.line_no
         ) as standing
  from order_items i join o using (order_id)
  where line_kind in ('reversed', 'reversal')
),
pending as (
  select order_id, line_no from undone
  qualify not cancels and standing <= min(standing) over (
    partition by contact_id, product_id, pieces order by ordered_at desc, cancels desc, order_id desc, line_no desc
  )
),
l as (
  select i.order_id, i.line_no, contact_id, ordered_at, product_id, name, category, quantity,
         quantity * unit_price as value, i.line_kind <> 'return' as is_sale
  from order_items i
  join o using (order_id)
  left join products using (product_id)
  left join pending p on p.order_id = i.order_id and p.line_no = i.line_no
  where i.line_kind in ('sale', 'return') or p.order_id is not null
),
documents as (
  select order_id, contact_id, ordered_at,
         coalesce(sum(value) filter (is_sale), 0) as sold,
         coalesce(sum(quantity) filter (is_sale), 0) as pieces,
         coalesce(-sum(value) filter (not is_sale), 0) as returned,
         coalesce(-sum(quantity) filter (not is_sale), 0) as returned_pieces,
         bool_or(is_sale) as is_order
  from l group by all
),
money as (
  select contact_id,
         sum(sold - returned) as revenue, sum(returned) as returned_revenue, sum(returned_pieces) as returned_items,
         sum(sold - returned) filter (ordered_at > getvariable('as_of') - interval 7 days) as revenue_7d,
         sum(sold - returned) filter (ordered_at > getvariable('as_of') - interval 30 days) as revenue_30d,
         sum(sold - returned) filter (ordered_at > getvariable('as_of') - interval 90 days) as revenue_90d,
         sum(sold - returned) filter (ordered_at > getvariable('as_of') - interval 180 days) as revenue_180d,
         sum(sold - returned) filter (ordered_at > getvariable('as_of') - interval 365 days) as revenue_365d
  from documents group by contact_id
),
bought as (
  select *, timezone(getvariable('zone'), ordered_at) as local,
         epoch_us(ordered_at) - epoch_us(lag(ordered_at) over w) as gap,
         row_number() over (partition by contact_id order by ordered_at desc, order_id desc) as newest
  from documents where is_order
  window w as (partition by contact_id order by ordered_at, order_id)
),
orders_of as (
  select contact_id,
         count(*) as orders_count, sum(sold) as sold, sum(pieces) as items_count, max(sold) as largest_order_value,
         count(*) filter (ordered_at > getvariable('as_of') - interval 7 days) as orders_7d,
         count(*) filter (ordered_at > getvariable('as_of') - interval 30 days) as orders_30d,
         count(*) filter (ordered_at > getvariable('as_of') - interval 90 days) as orders_90d,
         count(*) filter (ordered_at > getvariable('as_of') - interval 180 days) as orders_180d,
         count(*) filter (ordered_at > getvariable('as_of') - interval 365 days) as orders_365d,
         min(local)::date as first_order_date, max(local)::date as last_order_date,
         date_sub('day', max(ordered_at), getvariable('as_of')) as recency_days,
         date_sub('day', min(ordered_at), getvariable('as_of')) as tenure_days,
         avg(gap) / 86400e6 as mean_gap_days, median(gap) / 86400e6 as median_gap_days,
         stddev_samp(gap) / 86400e6 as sd_gap_days
  from bought group by contact_id
),
hours as (
  select contact_id, hour(local) as favourite_hour from bought
  group by contact_id, hour(local)
  qualify row_number() over (partition by contact_id order by count(*) desc, min(newest)) = 1
),
weekdays as (
  select contact_id, dayname(local) as favourite_weekday from bought
  group by contact_id, dayname(local)
  qualify row_number() over (partition by contact_id order by count(*) desc, min(newest)) = 1
),
variety as (
  select contact_id, count(distinct product_id) as products_count, count(distinct category) as categories_count
  from l where is_sale group by contact_id
),
categories as (
  select contact_id, category, sum(value) as spent,
         row_number() over (partition by contact_id order by sum(value) desc, category) as place
  from l where is_sale and category is not null group by contact_id, category
),
taste as (
  select contact_id,
         any_value(category) filter (place = 1) as top_category,
         sum(spent) filter (place = 1) / sum(spent) as top_category_share,
         any_value(category) filter (place = 2) as second_category,
         sum(spent) filter (place = 2) / sum(spent) as second_category_share,
         list(category order by place) filter (place <= 3) as top_categories
  from categories group by contact_id
),
last_line as (
  select l.contact_id, product_id as last_product_id, name as last_product, category as last_category
  from l join bought b on b.order_id = l.order_id and b.newest = 1
  where l.is_sale
  qualify row_number() over (partition by l.contact_id order by value desc, line_no) = 1
),
delivered as (
  select contact_id, country from o where country is not null
  qualify row_number() over (partition by contact_id order by ordered_at desc, order_id desc) = 1
),
e as (from events where occurred_at <= getvariable('as_of')),
kinds as (
  select coalesce(bool_or(event_type = 'product_viewed'), false) as views,
         coalesce(bool_or(event_type = 'cart_added'), false) as carts,
         coalesce(bool_or(event_type = 'email_opened'), false) as opens,
         coalesce(bool_or(event_type = 'email_clicked'), false) as clicks
  from e
),
counts as (
  select contact_id, max(occurred_at) as last_seen_at,
         count(*) filter (event_type = 'product_viewed' and occurred_at > getvariable('as_of') - interval 7 days) as views_7d,
         count(*) filter (event_type = 'product_viewed' and occurred_at > getvariable('as_of') - interval 30 days) as views_30d,
         count(*) filter (event_type = 'product_viewed' and occurred_at > getvariable('as_of') - interval 90 days) as views_90d,
         count(*) filter (event_type = 'cart_added' and occurred_at > getvariable('as_of') - interval 7 days) as carts_7d,
         count(*) filter (event_type = 'cart_added' and occurred_at > getvariable('as_of') - interval 30 days) as carts_30d,
         count(*) filter (event_type = 'cart_added' and occurred_at > getvariable('as_of') - interval 90 days) as carts_90d,
         count(*) filter (event_type = 'email_opened' and occurred_at > getvariable('as_of') - interval 7 days) as opens_7d,
         count(*) filter (event_type = 'email_opened' and occurred_at > getvariable('as_of') - interval 30 days) as opens_30d,
         count(*) filter (event_type = 'email_opened' and occurred_at > getvariable('as_of') - interval 90 days) as opens_90d,
         count(*) filter (event_type = 'email_clicked' and occurred_at > getvariable('as_of') - interval 7 days) as clicks_7d,
         count(*) filter (event_type = 'email_clicked' and occurred_at > getvariable('as_of') - interval 30 days) as clicks_30d,
         count(*) filter (event_type = 'email_clicked' and occurred_at > getvariable('as_of') - interval 90 days) as clicks_90d
  from e group by contact_id
),
abandoned as (
  select contact_id,
         count(*) filter (occurred_at > getvariable('as_of') - interval 7 days) as abandoned_carts_7d,
         count(*) filter (occurred_at > getvariable('as_of') - interval 30 days) as abandoned_carts_30d,
         count(*) filter (occurred_at > getvariable('as_of') - interval 90 days) as abandoned_carts_90d
  from e c
  where event_type = 'cart_added' and occurred_at <= getvariable('as_of') - interval 24 hours
    and not exists (
      from bought b
      where b.contact_id = c.contact_id and b.ordered_at between c.occurred_at and c.occurred_at + interval 24 hours
    )
  group by contact_id
),
looked as (
  select contact_id, event_type, category, max(occurred_at) as latest,
         count(*) filter (occurred_at > getvariable('as_of') - interval 7 days) as n7,
         count(*) filter (occurred_at > getvariable('as_of') - interval 30 days) as n30,
         count(*) as n90
  from e join products using (product_id)
  where category is not null and occurred_at > getvariable('as_of') - interval 90 days
  group by all
),
looked_at as (
  select contact_id,
         first(category order by n7 desc, latest desc, category) filter (event_type = 'product_viewed' and n7 > 0) as viewed_category_7d,
         first(category order by n30 desc, latest desc, category) filter (event_type = 'product_viewed' and n30 > 0) as viewed_category_30d,
         first(category order by n90 desc, latest desc, category) filter (event_type = 'product_viewed') as viewed_category_90d,
         first(category order by n7 desc, latest desc, category) filter (event_type = 'cart_added' and n7 > 0) as carted_category_7d,
         first(category order by n30 desc, latest desc, category) filter (event_type = 'cart_added' and n30 > 0) as carted_category_30d,
         first(category order by n90 desc, latest desc, category) filter (event_type = 'cart_added') as carted_category_90d
  from looked group by contact_id
)
select c.contact_id,
       coalesce(c.country, d.country) as country,
       date_sub('year', c.birth_date, timezone(getvariable('zone'), getvariable('as_of'))::date) as age_years,
       if(c.created_at <= getvariable('as_of'), date_sub('day', c.created_at, getvariable('as_of')), null) as account_age_days,
       coalesce(orders_count, 0) as orders_count,
       coalesce(revenue, 0)::decimal(18, 4) as revenue,
       (orders_of.sold / orders_count)::decimal(18, 4) as average_order_value,
       largest_order_value::decimal(18, 4) as largest_order_value,
       (orders_of.sold / items_count)::decimal(18, 4) as average_item_price,
       coalesce(items_count, 0)::bigint as items_count,
       items_count / orders_count as average_items_per_order,
       coalesce(products_count, 0) as products_count,
       coalesce(categories_count, 0) as categories_count,
       coalesce(returned_items, 0)::bigint as returned_items,
       coalesce(returned_revenue, 0)::decimal(18, 4) as returned_revenue,
       if(items_count > 0, least(returned_items / items_count, 1), null) as return_rate,
       first_order_date, last_order_date, recency_days, tenure_days, mean_gap_days, median_gap_days, sd_gap_days,
       coalesce(orders_7d, 0) as orders_7d,
       coalesce(orders_30d, 0) as orders_30d,
       coalesce(orders_90d, 0) as orders_90d,
       coalesce(orders_180d, 0) as orders_180d,
       coalesce(orders_365d, 0) as orders_365d,
       coalesce(revenue_7d, 0)::decimal(18, 4) as revenue_7d,
       coalesce(revenue_30d, 0)::decimal(18, 4) as revenue_30d,
       coalesce(revenue_90d, 0)::decimal(18, 4) as revenue_90d,
       coalesce(revenue_180d, 0)::decimal(18, 4) as revenue_180d,
       coalesce(revenue_365d, 0)::decimal(18, 4) as revenue_365d,
       favourite_hour, favourite_weekday,
       top_category, top_category_share, second_category, second_category_share, top_categories,
       last_product_id, last_product, last_category,
       if(views, coalesce(views_7d, 0), null) as views_7d,
       if(views, coalesce(views_30d, 0), null) as views_30d,
       if(views, coalesce(views_90d, 0), null) as views_90d,
       if(carts, coalesce(carts_7d, 0), null) as carts_7d,
       if(carts, coalesce(carts_30d, 0), null) as carts_30d,
       if(carts, coalesce(carts_90d, 0), null) as carts_90d,
       if(opens, coalesce(opens_7d, 0), null) as opens_7d,
       if(opens, coalesce(opens_30d, 0), null) as opens_30d,
       if(opens, coalesce(opens_90d, 0), null) as opens_90d,
       if(clicks, coalesce(clicks_7d, 0), null) as clicks_7d,
       if(clicks, coalesce(clicks_30d, 0), null) as clicks_30d,
       if(clicks, coalesce(clicks_90d, 0), null) as clicks_90d,
       if(carts, coalesce(abandoned_carts_7d, 0), null) as abandoned_carts_7d,
       if(carts, coalesce(abandoned_carts_30d, 0), null) as abandoned_carts_30d,
       if(carts, coalesce(abandoned_carts_90d, 0), null) as abandoned_carts_90d,
       viewed_category_7d, viewed_category_30d, viewed_category_90d,
       carted_category_7d, carted_category_30d, carted_category_90d,
       last_seen_at, date_sub('day', last_seen_at, getvariable('as_of')) as last_seen_days
from customers c
cross join kinds
left join delivered d using (contact_id)
left join money using (contact_id)
left join orders_of using (contact_id)
left join hours using (contact_id)
left join weekdays using (contact_id)
left join variety using (contact_id)
left join taste using (contact_id)
left join last_line using (contact_id)
left join counts using (contact_id)
left join abandoned using (contact_id)
left join looked_at using (contact_id)
